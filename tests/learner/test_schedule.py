from collections import Counter

from learner.replay import Labelled, Replay
from learner.schedule import Schedule
from tests.learner.small import labelled, small_config

EVERY = 60
"""Labels between two rounds in the small configuration."""


def memory(size: int) -> Replay[Labelled]:
    it = Replay[Labelled](1_000, 1 << 20, seed=0)
    it.add(labelled(0, size))
    return it


def schedule(**counts: int) -> tuple[Schedule, Counter[str]]:
    held = Counter(counts)
    return Schedule(small_config(rehearse_after_s=1.0, rehearsal_steps=10), held), held


def test_a_round_waits_for_its_labels_and_moves_its_mark() -> None:
    it, counts = schedule(learnt=EVERY - 1)
    assert it.plan(labelled(0, 9), memory(80), is_urgent=False, is_idle=False) is None
    counts["learnt"] = EVERY
    plan = it.plan(labelled(0, 9), memory(80), is_urgent=False, is_idle=False)
    assert plan and plan.number == counts["rounds"] == 1 and counts["round_at"] == EVERY
    assert len(plan.steps) == EVERY // 20 and all(len(step.fresh) == 4 for step in plan.steps)
    assert it.plan(labelled(0, 9), memory(80), is_urgent=False, is_idle=False) is None


def test_after_a_drift_fewer_labels_are_enough() -> None:
    it, counts = schedule(learnt=EVERY + 10, round_at=EVERY)
    few = small_config().drift_min_labels
    assert it.plan([], memory(80), is_urgent=few > 10, is_idle=False) is None
    counts["learnt"] = EVERY + min(few, EVERY)
    assert it.plan([], memory(80), is_urgent=True, is_idle=False) is not None


def test_silence_is_for_the_memory_alone_and_no_shorter_than_is_set() -> None:
    it, counts = schedule(learnt=EVERY, round_at=EVERY)
    assert not it.is_rested(80, is_urgent=False)
    plan = it.plan(labelled(500, 509), memory(80), is_urgent=False, is_idle=True)
    assert plan and len(plan.steps) == 10 and counts["rehearsals"] == 1
    known = set(memory(80).samples())
    assert all(sample in known for step in plan.steps for sample in step.samples)
    assert it.is_rested(80, is_urgent=False)


def test_a_large_memory_delays_a_round_but_no_rehearsal() -> None:
    it, counts = schedule(learnt=EVERY)
    assert it.plan([], memory(900), is_urgent=False, is_idle=False) is None
    plan = it.plan([], memory(900), is_urgent=False, is_idle=True)
    assert plan and counts["rehearsals"] == 1 and len(plan.steps) == 900 // 8


def test_an_empty_memory_and_a_frozen_encoder_have_nothing_to_do() -> None:
    it, _ = schedule(learnt=500)
    assert it.plan([], memory(0), is_urgent=True, is_idle=True) is None
    frozen = Schedule(small_config(trainable_layers=0), Counter(learnt=500))
    assert frozen.plan([], memory(80), is_urgent=True, is_idle=True) is None and frozen.is_rested(80, is_urgent=True)
