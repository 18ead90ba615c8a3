"""Tests of the memories and windows that are made from the settings."""

from learner.drift import DriftState
from learner.rounds.schedule import GROWTH
from learner.samples import Labelled
from learner.state.parts import make_classes, make_drift_watch, make_fresh_buffer, make_holdout, make_replay_buffer
from tests.learner.small_learner import labelled, small_config


def test_each_is_as_large_as_the_settings_say() -> None:
    config = small_config(replay_samples=30, holdout_samples=8, slow_every_labels=12)
    samples = labelled(0, 100)
    replay = make_replay_buffer(config)
    holdout = make_holdout(config)
    fresh = make_fresh_buffer(config)
    replay.add(samples)
    holdout.add(samples)
    fresh.add(samples)
    assert (len(replay), len(holdout), len(fresh)) == (30, 8, 12)
    assert make_classes(config).export() == make_classes(config, make_classes(config).export()).export()
    assert make_drift_watch(config).export() == DriftState()


def test_as_many_fresh_samples_are_kept_as_make_the_next_round_due() -> None:
    fresh = make_fresh_buffer(small_config(replay_samples=1_000, slow_every_labels=12))
    fresh.add(labelled(0, 300))
    assert len(fresh) == GROWTH * 1_000


def test_the_memories_draw_differently_under_one_seed_and_the_same_each_time() -> None:
    config = small_config(replay_samples=20, holdout_samples=20, slow_every_labels=20, replay_policy="reservoir")
    samples = labelled(0, 200)

    def kept() -> list[frozenset[Labelled]]:
        replay = make_replay_buffer(config)
        fresh = make_fresh_buffer(config)
        replay.add(samples)
        fresh.add(samples)
        return [frozenset(memory.samples()) for memory in (replay, fresh)]

    replayed, fresh = kept()
    assert replayed != fresh
    assert [replayed, fresh] == kept()


def test_a_restored_memory_goes_on_as_the_one_that_was_stored() -> None:
    config = small_config(replay_samples=30, holdout_samples=8)
    whole = make_replay_buffer(config)
    whole.add(labelled(0, 60))
    restored = make_replay_buffer(config, whole.export())
    for memory in (whole, restored):
        memory.add(labelled(60, 120))
    assert restored.export() == whole.export()
