"""A head of the user goes the whole way: learnt under, published, swapped in, trained under, rolled back, rebuilt.

labels --exact sums--> Ridge of ten lines --version, Redis--> replica --> answers; withdraw --> what was known then
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from learner.release.rebuild import differences, rebuild
from model.packed import Inputs
from model.ragged import RaggedBatch
from serving.config import PrecisionConfig
from serving.weights.loader import Loader
from tests.learner.fast.heads import FailsLater, Ridge, import_path
from tests.learner.publish_rig import PublishRig, withdraw
from tests.learner.small_learner import small_learner, tokenizer
from tests.learner.streams import label_of, make_text, stream
from tests.model.small_encoder import model_logits
from wire.records import Answer, Feedback
from wire.store import Store

pytestmark = pytest.mark.live

RIDGE = import_path(Ridge, "(penalty=0.001)")


def logits(store: Store, version: int, numbers: range) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Returns what a replica that has loaded `version` makes of the texts, and the names of the columns."""
    inputs: Inputs = tokenizer()
    model = Loader(store, inputs, precision=PrecisionConfig(), probe_tolerance=0.05).load(version).model
    batch = RaggedBatch.of(inputs.encode_many([make_text(number) for number in numbers]))
    return model_logits(model, batch), tuple(model.labels)


def right(store: Store, version: int, numbers: range) -> float:
    logits_BC, labels = logits(store, version, numbers)
    rows = logits_BC.argmax(dim=1).tolist()
    names = [labels[row] for row in rows]
    return sum(map(str.__eq__, names, map(label_of, numbers))) / len(numbers)


def test_it_is_learnt_under_published_and_swapped_in(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, head=RIDGE)
    rig.learn(0, 20)
    first = rig.publish()
    rig.learn(20, 120)
    second = rig.publish()
    new = range(200, 260)
    assert right(store, second, new) > right(store, first, new) and right(store, second, new) > 0.9
    solution = store.versions.manifest(second).solution
    assert RIDGE in solution.arithmetic and not solution.batches
    known = rig.learner.knowledge
    z_BD = rig.learner.fast_head.served.z_many([make_text(number) for number in new])
    own_BC = rig.learner.fast_head.served.features(z_BD) @ rig.learner.fast_head.solve().T / known.temperature
    torch.testing.assert_close(logits(store, second, new)[0], own_BC, rtol=0.05, atol=0.05 * float(own_BC.abs().max()))


def test_a_round_trains_under_it_and_a_restart_goes_on_with_it(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, head=RIDGE, trainable_layers=1, max_top_update=5.0)
    rig.learn(0, 100)
    rig.publish()
    rig.learner.begin("labels")
    while rig.learner.has_work:
        rig.learner.tick()
    rig.learn(100, 140)
    version = rig.publish()
    assert right(store, version, range(200, 260)) > 0.8
    weights_CR = rig.learner.fast_head.solve()
    rig.publisher.checkpoint()
    rig.start()
    assert torch.equal(rig.learner.fast_head.solve(), weights_CR) and rig.learner.version == version


def test_a_rollback_leads_to_what_was_known_and_learning_goes_on(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, head=RIDGE)
    weights: list[torch.Tensor] = []
    for last in (40, 80, 120):
        rig.learn(last - 40, last)
        rig.publish()
        weights.append(rig.learner.fast_head.solve())
    withdraw(store, to=2)
    rig.learn(120, 130)
    assert rig.publish() == 2
    assert torch.equal(rig.learner.fast_head.solve(), weights[1])
    rig.learn(130, 160)
    assert rig.publish() == 4 and store.versions.manifest(4).parent == 2


def test_a_version_is_rebuilt_from_the_topics_bit_for_bit(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, head=RIDGE)
    for last in (40, 80):
        rig.learn(last - 40, last)
        rig.publish()
    at = 0

    def read_to(offsets: Mapping[str, int]) -> Iterator[Sequence[Answer | Feedback]]:
        nonlocal at
        end = offsets.get("feedback.v1/0", 0)
        if end > at:
            yield list(stream(at, end))
            at = end

    manifest = store.versions.manifest(2)
    again = rebuild(manifest, small_learner(trainable_layers=0, head=RIDGE), rig.config, read_to)
    assert differences(manifest, again) == []


def test_a_head_that_fails_ends_no_learner_and_its_versions_are_refused(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path, head=import_path(FailsLater))
    rig.learn(0, 4)
    assert rig.publish() == 1
    rig.learn(4, 20)
    assert rig.publish() == 1 and rig.publisher.refusals == ("head_failed",)
