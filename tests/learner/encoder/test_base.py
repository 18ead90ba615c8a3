"""States under other settings: some are kept bit for bit, some are rebuilt, some are refused."""

from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from learner.errors import StateRefused
from learner.learner import Learner
from learner.samples import Labelled
from learner.state.checkpoints import VersionState
from learner.state.snapshot import Snapshot, decode, encode
from model.errors import WrongConfig
from serving.config import PrecisionConfig
from serving.weights.loader import Loader
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import small_config, small_learner, small_strata, tokenizer
from tests.learner.streams import answer, feedback, stream
from wire.store import GAP, Store


def taught(**changed: float | str) -> Learner:
    """A learner that has read 80 events."""
    learner = small_learner(**changed)
    learner.learn_many(stream(0, 80), {"feedback.v1/0": 80})
    return learner


def trained(**changed: float | str) -> Learner:
    """A learner that has adopted the encoder of a slow round."""
    it = taught(slow_rate=1e-5, **changed)
    it.tick()
    while it.has_work:
        it.tick()
    assert it.counts["rounds_adopted"] == 1
    return it


def restored(old: Learner, **changed: float | str) -> Learner:
    """A learner under `changed` settings that was restored from the state of `old`."""
    learner = small_learner(slow_rate=1e-5, **changed)
    learner.restore(decode(encode(old.export(None))))
    return learner


def assert_same_sums(one: Learner, other: Learner) -> None:
    mine = one.fast_head.export()
    theirs = other.fast_head.export()
    assert one.fast_head.ridge.classes == other.fast_head.ridge.classes
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def assert_rebuilt(it: Learner, old: Learner) -> None:
    """Checks that the sums are the sums of the replay buffer under the current encoder."""
    once = it.fast_head.successor(it.fast_head.served)
    once.learn_many(it.replay.samples())
    sums = it.fast_head.export()
    assert all(torch.equal(value, sums[name]) for name, value in once.export().items())
    assert it.fast_head.ridge.classes == old.fast_head.ridge.classes and it.replay.samples() == old.replay.samples()
    assert it.has_migrated and it.counts["migrations"] == 1 and it.knowledge.anchor is None and it.knowledge.lineage.gap


def read_top(it: Learner, layer: int) -> dict[str, torch.Tensor]:
    state = it.knowledge.strata.state_dict()
    return {name: value for name, value in state.items() if name.startswith(f"layers.{layer}.")}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("changed", [{"num_features": 64}, {"num_features": 128}, {"seed": 5}])
def test_sums_of_other_features_are_rebuilt_from_the_buffer(changed: dict[str, float]) -> None:
    old = trained()
    it = restored(old, **changed)
    assert_rebuilt(it, old)
    assert_equal(read_top(it, 1), read_top(old, 1))
    assert it.offsets == old.offsets and it.counts["learnt"] == old.counts["learnt"]
    again = restored(it, **changed)
    assert not again.has_migrated and again.counts["migrations"] == 1
    assert_same_sums(it, again)


def test_lost_samples_are_reported() -> None:
    old = taught(replay_samples=30)
    with capture_logs() as logs:
        it = restored(old, replay_samples=30, num_features=64)
    (entry,) = [log for log in logs if log["event"] == "migrated"]
    assert entry["changed"] == {"learner.num_features": "96 -> 64"}
    assert entry["samples_lost"] == old.fast_head.ridge.num_samples - len(old.replay)
    assert entry["samples_lost"] > 20
    assert it.fast_head.ridge.num_samples == 30


def test_more_rows_cost_nothing() -> None:
    old = trained()
    it = restored(old, label_capacity=16)
    assert_same_sums(it, old)
    assert_equal(it.knowledge.top, old.knowledge.top)
    for number in range(12):
        it.learn_many([answer(100 + number), feedback(100 + number, label=f"class {number}")], {})
    assert len(it.fast_head.ridge.classes) > 8 and not it.counts["over_capacity"]


def test_fewer_rows_than_classes_are_refused_and_nothing_is_changed() -> None:
    old = taught()
    it = small_learner(label_capacity=4)
    with pytest.raises(StateRefused, match="label_capacity is 4, but 5 classes"):
        it.restore(old.export(None))
    assert not it.fast_head.ridge.classes and not it.offsets


def test_blocks_that_are_not_trained_any_more_stay_as_they_were_trained() -> None:
    old = trained()
    still = restored(old, trainable_layers=0)
    assert_same_sums(still, old)
    assert still.fast_head.served.key == old.fast_head.served.key
    assert still.fast_head.served.key != small_learner(trainable_layers=0).fast_head.served.key
    again = restored(still)
    assert_same_sums(again, old)
    assert_equal(again.knowledge.top, old.knowledge.top)
    assert not again.has_migrated


def test_one_more_trained_block_rebuilds_the_sums() -> None:
    old = trained()
    it = restored(old, trainable_layers=2)
    assert_rebuilt(it, old)
    assert_equal(read_top(it, 1), read_top(old, 1))
    it.learn_many(stream(80, 200), {})
    it.tick()
    while it.has_work:
        it.tick()
    assert it.counts["rounds"] == 2


def test_another_encoder_keeps_the_buffer_and_drops_the_blocks() -> None:
    old = trained()
    it = Learner(small_config(), small_strata(seed=8), tokenizer())
    it.restore(old.export(None))
    assert_rebuilt(it, old)
    assert_equal(read_top(it, 1), read_top(Learner(small_config(), small_strata(seed=8), tokenizer()), 1))


def test_a_round_is_dropped_if_the_encoder_changes_and_repeated_otherwise() -> None:
    old = taught()
    old.tick()
    assert old.knowledge.round
    assert restored(old, label_capacity=16).has_work
    for changed in ({"num_features": 64}, {"trainable_layers": 0}, {"trainable_layers": 2}):
        it = restored(old, **changed)
        assert not it.has_work and it.knowledge.lineage.rounds[-1].outcome == "dropped"


def test_a_learner_goes_back_to_a_version_made_under_other_settings() -> None:
    old = trained()
    it = restored(old, trainable_layers=0)
    it.learn_many(stream(80, 99), {"feedback.v1/0": 99})
    before = taught(trainable_layers=0).export(None)
    it.go_back(VersionState(before), 3)
    assert_rebuilt_from(it, before)
    assert it.offsets == {"feedback.v1/0": 99} and it.version == 3


def assert_rebuilt_from(it: Learner, snapshot: Snapshot) -> None:
    once = it.fast_head.successor(it.fast_head.served)
    once.learn_many(list_samples(snapshot))
    assert torch.equal(once.export()["gram"], it.fast_head.export()["gram"])


def list_samples(snapshot: Snapshot) -> list[Labelled]:
    samples = list[Labelled]()
    for heap in snapshot.facts.replay.groups.values():
        samples += [sample for _, sample in heap]
    return samples


def test_more_trained_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(WrongConfig, match="trainable_layers is 3, but the encoder has 2 blocks"):
        small_learner(trainable_layers=3)
    with pytest.raises(WrongConfig, match="deeper_layers is 3, but the encoder has 2 blocks"):
        small_learner(deeper_layers=(3, 0))


@pytest.mark.live
@pytest.mark.parametrize("changed", [{"num_features": 64}, {"label_capacity": 16}, {"seed": 5}])
def test_a_state_under_changed_settings_is_published_and_can_be_served(
    store: Store, tmp_path: Path, changed: dict[str, float]
) -> None:
    rig = PublishRig(store, tmp_path)
    rig.learn(0, 60)
    rig.publish()
    rig.start(**changed)
    assert rig.publisher.is_due()
    number = rig.publish()
    assert number == 2 + GAP, "a leader that begins leaves a gap"
    assert store.versions.manifest(number).model_spec == rig.learner.knowledge.base.spec_for(rig.config.label_capacity)
    assert Loader(store, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05).load(number).number == number
    rig.start()
    assert not rig.publisher.is_due()
