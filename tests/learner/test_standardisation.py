"""Numbers and categories are learnt, under scales that are part of the version and come out the same, bit for bit."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec
import pytest

from learner.learner import Learner
from learner.release.candidate import Candidate, CandidateMaker, build_manifest
from learner.release.rebuild import ReadTo, differences, rebuild
from learner.standardisation import MIN_LABELS
from learner.stopwatch import Stopwatch
from lifelong.plugins.inputs.feature_tensors import SCALES, Scale
from tests.learner.small_learner import Setting, scales_in, small_config, small_learner
from tests.learner.streams import answer, feedback
from tests.learner.test_learner import assert_same, copy_learner
from wire.inputs import Features, decode_content, encode_content
from wire.records import Answer, Feedback

NUM_EVENTS = 400
FEW: dict[str, Setting] = {"replay_samples": 100, "learn_names": False}


def make_features(number: int) -> Features:
    """The label hangs on whether the amount is high for its country: on both together, and on neither alone."""
    high = number * 7 % 11 > 5
    return {
        "amount": 1_000.0 + 10 * high + number * 3 % 5,
        "country": ("nz", "fr")[number // 3 % 2],
        "noise": number % 2,
    }


def label_of(number: int) -> str:
    features = make_features(number)
    amount = features["amount"]
    assert not isinstance(amount, str)
    return "fraud" if (amount >= 1_008) == (features["country"] == "nz") else "fine"


def event(number: int, more: Mapping[str, float], *, text: str = "") -> Answer:
    return msgspec.structs.replace(answer(number), text=text, features={**make_features(number), **more})


def records(numbers: Sequence[int], **more: float) -> list[Answer | Feedback]:
    found: list[Answer | Feedback] = []
    for number in numbers:
        found += (event(number, more), feedback(number, label=label_of(number)))
    return found


def fed(learner: Learner, numbers: range, *, size: int = 20, **more: float) -> Learner:
    for first in range(numbers.start, numbers.stop, size):
        last = min(first + size, numbers.stop)
        learner.learn_many(records(range(first, last), **more), {"answers.v1/0": last, "feedback.v1/0": last})
        learner.tick()
    return learner


def made(learner: Learner) -> Candidate:
    return CandidateMaker(small_config()).make(learner.knowledge, Stopwatch(), learner.offsets)


def accuracy(candidate: Candidate, numbers: range) -> float:
    contents = [encode_content("", make_features(number)) for number in numbers]
    rows = candidate.version.head.logits(candidate.version.served.z_many(contents), 2).argmax(dim=1).tolist()
    named = [candidate.version.classes[row] for row in rows]
    num_right: int = sum(name == label_of(number) for name, number in zip(named, numbers, strict=True))
    return num_right / len(numbers)


@pytest.fixture(scope="module")
def learnt() -> Learner:
    return fed(small_learner(), range(NUM_EVENTS))


def test_what_hangs_on_a_number_and_a_category_together_is_learnt(learnt: Learner) -> None:
    before = fed(small_learner(), range(MIN_LABELS - 2))
    assert not scales_in(before).scales
    candidate = made(learnt)
    assert SCALES in candidate.tensors
    assert accuracy(candidate, range(NUM_EVENTS, NUM_EVENTS + 200)) > 0.9


def test_nothing_is_trained_on_events_without_a_text(learnt: Learner) -> None:
    assert learnt.counts["rounds"] == 0 and learnt.is_rested
    mixed = small_learner()
    for number in range(120):
        mixed.learn_many([event(number, {}, text="about a payment"), feedback(number, label=label_of(number))], {})
        mixed.tick()
    assert mixed.counts["rounds"] > 0


def test_the_sums_are_those_of_a_learner_that_had_the_scales_from_the_start(learnt: Learner) -> None:
    head = learnt.fast_head
    other = head.successor(head.served)
    other.relearn([sample for sample in learnt.replay.samples()][::-1])
    mine, theirs = head.export(), other.export()
    assert all(mine[name].equal(theirs[name]) for name in ("gram", "class", "counts", "z"))


def test_a_learner_that_was_stored_goes_on_under_its_scales(learnt: Learner) -> None:
    copy = copy_learner(learnt)
    assert_same(learnt, copy)
    assert copy.fast_head.served.key == learnt.fast_head.served.key
    assert accuracy(made(copy), range(NUM_EVENTS, NUM_EVENTS + 50)) == accuracy(
        made(learnt), range(NUM_EVENTS, NUM_EVENTS + 50)
    )


def test_a_version_is_rebuilt_bit_for_bit_by_its_scales(learnt: Learner) -> None:
    manifest = build_manifest(made(learnt), learnt, version=1, epoch=1, time_ms=0)
    assert manifest.lineage.gap == ""
    states = learnt.fast_head.served.states
    again = rebuild(manifest, small_learner(), small_config(), labels_first(), states)
    assert differences(manifest, again) == []


def labels_first() -> ReadTo:
    """All labels below the offsets come before their answers, and these in parts of another size."""
    read = 0

    def read_to(offsets: Mapping[str, int]) -> Iterator[Sequence[Answer | Feedback]]:
        nonlocal read
        last = max([read, *offsets.values()])
        found = records(range(read, last))
        read = last
        yield [record for record in found if isinstance(record, Feedback)]
        yield [record for record in found if isinstance(record, Answer)][::-1]

    return read_to


def test_where_the_memory_has_dropped_something_only_new_numbers_get_a_scale() -> None:
    learner = fed(small_learner(**FEW), range(200))
    old = scales_in(learner).scales
    assert learner.fast_head.ridge.num_samples > len(learner.replay)
    fed(learner, range(200, 300), late=7.0)
    fed(learner, range(300, 400), late=9.0)
    scales = scales_in(learner).scales
    assert scales.keys() - old.keys() == {"late"}
    assert scales == scales | old and scales["late"].scale > 0
    assert "numbers were standardised" in learner.knowledge.lineage.gap
    held = [sample for sample in learner.replay.samples() if "late" in decode_content(sample.text)["features"]]
    learner.fast_head.unlearn_many(held)
    assert learner.fast_head.ridge.num_samples == learner.counts["learnt"] - len(held)


def test_scales_are_measured_seldom() -> None:
    learner = small_learner()
    at = list[int]()
    for number in range(NUM_EVENTS):
        learner.learn_many(records([number]), {})
        learner.tick()
        if learner.counts["standardisations"] > len(at):
            at.append(learner.progress.num_labels)
    assert at[0] == MIN_LABELS and all(after >= 2 * before for before, after in pairwise(at))
    assert scales_in(learner).num_labels == at[-1]
    assert isinstance(scales_in(learner).scales["amount"], Scale)
