"""A kind of labels of another package goes the whole way, and what no kind may be is one clear error.

event -> answer -> label -> version -> swap -> verdict -> correction -> erasure -> checkpoint -> restore
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from learner.learner import Learner
from learner.relabelling import follow_settings
from model.kinds import tensors_of
from tests.doors.interval import INTERVAL, IntervalKind
from tests.doors.others import Other, fails
from tests.flow.test_in_memory import NUM_EVENTS, Service
from tests.learner.kind_rig import KindRig
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import SUBJECT_DIGEST, small_learner
from tests.learner.streams import TOPICS, make_subject
from tests.learner.streams import answer as answer_of
from tests.serving.versions import RECEIPTS
from wire.config import LabelConfig
from wire.envelope import check_fields, from_message, to_message
from wire.errors import BadMessage
from wire.kinds import KINDS, UNIT_RANGE, LabelKind, find_kind, group_name, is_right, label_string, render
from wire.label_set import LabelSet, check_label, with_label
from wire.message import Place
from wire.plugins import PluginError
from wire.records import Answer, Event, Feedback, LabelSpace
from wire.store import Store

PATH = "tests.doors.interval:INTERVAL"
INTERVALS = LabelConfig(kind=PATH, range=(0.0, 8.0))

Ends = tuple[float, float]


def ends_of_event(number: int) -> Ends:
    """Each topic has its own interval."""
    return float(number % 5), float(number % 5 + 3)


def target(ends: Ends) -> dict[str, Any]:
    return {"kind": "interval", "low": ends[0], "high": ends[1]}


def events(name: str) -> list[Event]:
    texts = [f"the {TOPICS[number % 5]} {TOPICS[number % 5]} once more" for number in range(NUM_EVENTS)]
    return [Event(id=f"{name}-{number}", text=text) for number, text in enumerate(texts)]


def mean_overlap(answers: Sequence[Answer]) -> float:
    labels = LabelSet(INTERVALS)
    agreements = list[float]()
    for number, answer in enumerate(answers):
        said = Feedback(event_id="e", target=target(ends_of_event(number))).label_string
        words = [INTERVAL.fingerprint(labels.name_of(each)) for each in (answer.prediction or "", said)]
        agreements.append(INTERVAL.agreement(*words))
    return sum(agreements) / len(agreements)


class IntervalService(Service):
    """A service whose events have intervals."""

    def __init__(self, store: Store, folder: Path) -> None:
        super().__init__(store, folder, labels=INTERVALS)
        self.learner.learner.label_config = INTERVALS
        follow_settings(self.learner.learner)

    def label_intervals(self, answers: Sequence[Answer]) -> None:
        self.read(
            answers,
            [
                Feedback(
                    event_id=answer.event_id,
                    target=target(ends_of_event(number)),
                    key=answer.key,
                    receipt=answer.receipt,
                )
                for number, answer in enumerate(answers)
            ],
        )


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[IntervalService]:
    started = IntervalService(store, tmp_path)
    started.start()
    yield started
    started.close()


def test_an_event_is_answered_with_its_interval_by_the_version_that_has_learnt_it(
    service: IntervalService, store: Store
) -> None:
    assert service.publish() == 1
    before = service.answer(events("first"))
    assert {(answer.label, answer.output) for answer in before} == {(None, None)}
    service.label_intervals(before)
    assert service.publish() == 2
    manifest = store.versions.manifest(2)
    assert manifest.labelled == LabelSpace(kind=PATH, low=0.0, high=8.0)
    assert set(manifest.evaluation.figures or ()) == {"overlap"}
    after = service.answer(events("second"))
    assert {(answer.weights_version, answer.arm, answer.label) for answer in after} == {(2, "stable", None)}
    assert after[0].output is not None and after[0].output["kind"] == "interval"
    assert mean_overlap(after) > 0.7


def test_labels_that_come_back_judge_two_versions_by_what_both_cover(service: IntervalService) -> None:
    service.publish()
    service.label_intervals(service.answer(events("first")))
    service.publish(objection="labels decide")
    for name in ("second", "third"):
        service.label_intervals(service.answer(events(name)))
    service.await_swap()
    after = service.answer(events("fourth"))
    assert {(answer.weights_version, answer.arm) for answer in after} == {(2, "stable")}


def test_a_corrected_interval_takes_the_place_of_the_one_that_was_learnt(service: IntervalService) -> None:
    service.publish()
    answers = service.answer(events("first"))
    service.label_intervals(answers)
    learner = service.learner.learner
    corrected = Feedback(event_id=answers[0].event_id, target=target((0.0, 8.0)), event_source="", source="operator")
    service.read([], [RECEIPTS.approved(corrected)])
    held = [*learner.replay.samples(), *learner.knowledge.holdout.samples.samples()]
    assert len(held) == NUM_EVENTS == learner.fast_head.ridge.num_samples + len(learner.knowledge.holdout)
    assert [render(sample.label) for sample in held].count("0..1") == 1
    assert learner.counts["corrected"] == 1


def test_one_label_is_refused_where_intervals_are_wanted_and_says_what_to_send(service: IntervalService) -> None:
    service.publish()
    (answer, *_) = service.answer(events("first")[:1])
    (refused,) = service.read([answer], [Feedback(event_id=answer.event_id, label="refund", receipt=answer.receipt)])
    assert (refused.reason, "send `target`" in refused.detail) == ("wrong_kind", True)


class IntervalRig(KindRig):
    """A learner of intervals and its publisher."""

    labels = INTERVALS

    def learn(self, first: int, last: int) -> None:
        self.learner.learn_many(make_records(range(first, last)), {"feedback.v1/0": last})


def make_records(numbers: Iterable[int]) -> list[Answer | Feedback]:
    """Returns answers and the intervals that are their labels."""
    records = list[Answer | Feedback]()
    for number in numbers:
        feedback = Feedback(event_id=f"event-{number}", target=target(ends_of_event(number)), time_ms=number)
        records += [answer_of(number, label=None), feedback]
    return records


def list_tables(learner: Learner) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in learner.fast_head.export().items()}


@pytest.mark.live
def test_a_checkpoint_brings_intervals_back_and_the_sums_do_not_depend_on_the_order(
    store: Store, tmp_path: Path
) -> None:
    rig = IntervalRig(store, tmp_path)
    rig.learn(0, 40)
    rig.publish()
    sums = list_tables(rig.learner)
    labels = sorted(sample.label for sample in rig.learner.replay.samples())
    rig.start()
    assert list_tables(rig.learner) == sums
    assert sorted(sample.label for sample in rig.learner.replay.samples()) == labels
    rig.learn(40, 60)
    assert rig.publish() > 1
    head = rig.learner.fast_head
    other = rig.learner.fast_head.successor(head.served)
    samples = rig.learner.replay.samples()
    other.learn_many(samples[::-1])
    assert other.ridge.export()["class"].equal(head.ridge.export()["class"])


def build_learner(numbers: Iterable[int]) -> Learner:
    learner = small_learner(trainable_layers=0)
    learner.label_config = INTERVALS
    follow_settings(learner)
    learner.learn_many(make_records(numbers), {})
    return learner


def test_the_sums_without_an_erased_subject_are_those_of_all_others_bit_for_bit() -> None:
    learner = build_learner(range(40))
    others = build_learner(number for number in range(40) if make_subject(number) != make_subject(3))
    learner.erased.add(SUBJECT_DIGEST(make_subject(3)))
    assert learner.erase(keep_alive=lambda: None)["replay"] > 2
    mine = list_tables(learner)
    theirs = list_tables(others)
    assert mine["class"] == theirs["class"] and mine["gram"] == theirs["gram"]


def test_what_was_learnt_of_another_kind_is_refused_by_its_name(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path)
    rig.learn(0, 20)
    rig.learner.label_config = INTERVALS
    with pytest.raises(Exception, match="the learnt labels are of kind class"):
        follow_settings(rig.learner)


KIND_NAMES = ("class", "multilabel", "score", PATH)


@pytest.mark.parametrize("name", KIND_NAMES)
def test_the_laws_of_every_kind(name: str) -> None:
    kind = KINDS.get(name)
    assert KINDS.get(kind.name) is kind
    labels = LabelSet(LabelConfig(kind=name))
    tensors_of(kind)
    for label in kind.examples:
        assert find_kind(label) is kind
        feedback = with_label(Feedback(event_id="e"), label)
        message = to_message(feedback)
        read = from_message(Feedback, message, Place(topic="t", partition=0, offset=0))
        assert labels.name_of(read.label_string) == label == labels.name_of(label)
        assert labels.refusal(read.label_string, lambda name: True) == ""
        check_label(label, labels, max_chars=100)
        assert is_right(label, label, b"e") and not is_right(None, label, b"e")
        assert group_name(label, "e") in (*kind.row_names(label), "")
        for other in kind.examples:
            agreement = kind.agreement(kind.fingerprint(other), kind.fingerprint(label))
            assert 0 <= agreement <= 1
            assert agreement == kind.agreement(kind.fingerprint(label), kind.fingerprint(other))
        assert kind.card(UNIT_RANGE).scores


def test_a_target_of_a_kind_that_no_setting_names_is_a_bad_message_and_imports_nothing() -> None:
    for named in ("os:system", "unheard", 7, None):
        with pytest.raises(BadMessage, match=r"which is not the labels.kind of this service"):
            check_fields(Feedback(event_id="e", target={"kind": named}))
    with pytest.raises(BadMessage, match="its `low` above its `high`"):
        check_fields(Feedback(event_id="e", target=target((3.0, 2.0))))
    with pytest.raises(BadMessage, match="oversized"):
        check_fields(Feedback(event_id="e", target={**target((1.0, 2.0)), "note": "x" * 2_000}))
    with pytest.raises(BadMessage, match="give either"):
        check_fields(Feedback(event_id="e", label="a", target=target((1.0, 2.0))))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"agreement": None}, "lacks agreement"),
        ({"field": "label"}, "its field `label` belongs to the kind 'class': use `target`"),
        ({"field": "weights"}, "its field is `weights`: use `target`"),
        ({"marks": ("x",)}, "its mark 'x' is not allowed: use kind_prefix('other')"),
        ({"marks": ("\x1eother\x1e", "\x1d")}, "its mark '\\x1d' belongs to the kind 'multilabel'"),
        ({"examples": ()}, "it needs a mark and an example"),
        ({"render": fails}, "it raises RuntimeError: not today"),
        ({"write": lambda label: 7}, "write returns 7, and a `target` has to be an object"),
        ({"fingerprint": lambda label: "word"}, "it raises"),
        ({"fingerprint": lambda label: 0}, "fingerprint returns 0"),
        ({"row_names": lambda label: "low"}, "row_names returns 'low'"),
    ],
)
def test_a_kind_that_cannot_be_one_is_one_error_when_it_is_registered(changed: dict[str, Any], said: str) -> None:
    KINDS.all()
    plugin: Any = Other(INTERVAL, {"marks": ("\x1eother\x1e",), **_marked(), **changed})
    with pytest.raises(PluginError) as caught:
        KINDS.register(plugin)
    assert said in str(caught.value)
    assert "other" not in [kind.name for kind in KINDS.all()]


def _marked() -> dict[str, Any]:
    """What makes of labels of the other name those of intervals."""

    def own(label: str) -> str:
        return label.replace("other", "interval")

    def back(label: str) -> str:
        return label.replace("interval", "other")

    return {
        "examples": tuple(map(back, INTERVAL.examples)),
        "read": lambda value: back(INTERVAL.read(value)),
        "write": lambda label: INTERVAL.write(own(label)),
        "render": lambda label: INTERVAL.render(own(label)),
        "row_names": lambda label: tuple(map(back, INTERVAL.row_names(own(label)))),
        "learnt": lambda label, space: back(INTERVAL.learnt(own(label), space)),
        "fingerprint": lambda label: INTERVAL.fingerprint(own(label)),
    }


def test_a_name_that_another_kind_has_is_refused() -> None:
    KINDS.get(PATH)
    with pytest.raises(PluginError, match="are both called 'interval': rename one of them"):
        KINDS.register(IntervalKind())


def test_a_setting_that_names_no_kind_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="did you mean 'multilabel'"):
        LabelConfig(kind="multilable")
    with pytest.raises(ValueError, match=r"tests.doors.none:NONE cannot be imported: ModuleNotFoundError"):
        LabelConfig(kind="tests.doors.none:NONE")


def test_a_kind_that_fails_on_a_label_is_a_bad_message() -> None:
    class Failing(IntervalKind):
        def problem(self, value: Any) -> str:
            return str(fails())

    registered: LabelKind = KINDS.get(PATH)
    known = KINDS._by_mark[registered.marks[0]]
    KINDS._by_mark[registered.marks[0]] = Failing()
    try:
        with pytest.raises(BadMessage, match="the kind interval fails on it: RuntimeError: not today"):
            check_fields(Feedback(event_id="e", target=target((1.0, 2.0))))
    finally:
        KINDS._by_mark[registered.marks[0]] = known
    assert label_string(Feedback(event_id="e", target=target((1.0, 2.0))))
