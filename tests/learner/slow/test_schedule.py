import math
from collections import Counter

from learner.labels.join import Join
from learner.labels.trust import LabelTrust
from learner.memory.replay import Labelled, Replay, hash_key
from learner.slow.plan import RoundPlan
from learner.slow.schedule import Schedule
from tests.learner.small import labelled, small_config
from tests.learner.streams import answer

EVERY = 60
"""Labels between two rounds in the small configuration."""


def memory(size: int) -> Replay[Labelled]:
    replay = Replay[Labelled](1_000, 1 << 20, key_of=hash_key(0))
    replay.add(labelled(0, size))
    return replay


def waiting(size: int) -> Join:
    """A join with that many answers without a label."""
    config = small_config()
    join = Join(config, LabelTrust(config))
    join.match(answer(number) for number in range(size))
    return join


def schedule(**counts: int) -> tuple[Schedule, Counter[str]]:
    """A schedule, and the counts that it reads and changes."""
    counter = Counter(counts)
    return Schedule(small_config(rehearse_after_s=1.0, rehearsal_steps=30), counter), counter


def begun(
    it: Schedule, fresh: list[Labelled], size: int, join: Join, *, is_urgent: bool = False, is_idle: bool = False
) -> RoundPlan | None:
    """Begins the round that is due, if one is; returns its plan."""
    kind = it.due(size, join, is_urgent=is_urgent, is_idle=is_idle)
    return it.begin(kind, fresh, memory(size), join) if kind else None


def test_a_round_waits_for_its_labels_and_moves_its_mark() -> None:
    it, counts = schedule(learnt=EVERY - 1)
    assert begun(it, labelled(0, 9), 80, waiting(0)) is None
    counts["learnt"] = EVERY
    plan = begun(it, labelled(0, 9), 80, waiting(0))
    assert plan
    assert plan.number == 1
    assert counts["rounds"] == 1
    assert counts["round_at"] == EVERY
    assert len(plan.steps) == EVERY // 20 and all(len(step.fresh) == 4 for step in plan.steps)
    assert begun(it, labelled(0, 9), 80, waiting(0)) is None


def test_a_round_is_not_due_before_as_many_labels_as_are_said() -> None:
    it, counts = schedule(learnt=EVERY - 20)
    assert it.labels_to_round(80, is_urgent=False) == 20
    counts["learnt"] += 19
    assert begun(it, [], 80, waiting(0)) is None and it.labels_to_round(80, is_urgent=False) == 1
    counts["learnt"] += 1
    assert begun(it, [], 80, waiting(0)) is not None and it.labels_to_round(900, is_urgent=False) == 90
    assert Schedule(small_config(trainable_layers=0), counts).labels_to_round(80, is_urgent=False) == math.inf


def test_after_a_drift_fewer_labels_are_enough() -> None:
    it, counts = schedule(learnt=EVERY + 10, round_at=EVERY)
    few = small_config().drift_min_labels
    assert begun(it, [], 80, waiting(0), is_urgent=few > 10) is None
    counts["learnt"] = EVERY + min(few, EVERY)
    assert begun(it, [], 80, waiting(0), is_urgent=True) is not None


def test_a_rehearsal_trains_on_the_memory_alone_and_has_the_fewest_steps_that_are_set() -> None:
    it, counts = schedule(learnt=EVERY, round_at=EVERY)
    assert not it.is_rested(80, waiting(0), is_urgent=False)
    plan = begun(it, labelled(500, 509), 80, waiting(0), is_idle=True)
    assert plan and len(plan.steps) == 30 and counts["rehearsals"] == 1
    known = set(memory(80).samples())
    for step in plan.steps:
        assert known.issuperset(step.samples)
    assert it.is_rested(80, waiting(0), is_urgent=False)


def test_a_large_memory_delays_a_round_but_no_rehearsal() -> None:
    it, counts = schedule(learnt=EVERY)
    assert begun(it, [], 900, waiting(0)) is None
    plan = begun(it, [], 900, waiting(0), is_idle=True)
    assert plan and counts["rehearsals"] == 1 and len(plan.steps) == 2 * 900 // 8


def test_texts_without_a_label_are_learnt_once_where_they_are_more_than_the_memory() -> None:
    it, counts = schedule(learnt=EVERY, round_at=EVERY, rehearsed_at=EVERY)
    few = waiting(80)
    many = waiting(99)
    assert begun(it, [], 80, few, is_idle=True) is None
    assert it.is_rested(80, few, is_urgent=False) and not it.is_rested(80, many, is_urgent=False)
    assert begun(it, [], 80, many) is None
    plan = begun(it, [], 80, many, is_idle=True)
    assert plan and sorted(plan.unlabelled) == sorted(many.unlabelled(99))
    assert all((len(step.fresh), len(step.draws[0])) == (6, 2) for step in plan.steps)
    assert not it.is_rested(80, many, is_urgent=False)
    again = begun(it, [], 80, many, is_idle=True)
    assert again and again.unlabelled and counts["guessing_rounds"] == 2 and it.is_rested(80, many, is_urgent=False)


def test_texts_without_a_label_come_after_the_rehearsal_and_only_if_they_may() -> None:
    it, counts = schedule(learnt=EVERY, round_at=EVERY)
    plan = begun(it, [], 80, waiting(99), is_idle=True)
    assert plan and not plan.unlabelled and counts["rehearsals"] == 1
    rested = Counter(learnt=EVERY, round_at=EVERY, rehearsed_at=EVERY)
    draws_nothing = {"slow_strategy": "naive"}  # so no sample of such a round would have a label
    for off in ({"learn_unlabelled": False}, draws_nothing):
        it = Schedule(small_config(rehearse_after_s=1.0, **off), rested)
        assert begun(it, [], 80, waiting(99), is_idle=True) is None
        assert it.is_rested(80, waiting(99), is_urgent=False)


def test_an_empty_memory_and_a_frozen_encoder_have_nothing_to_do() -> None:
    it, _ = schedule(learnt=500)
    assert begun(it, [], 0, waiting(0), is_urgent=True, is_idle=True) is None
    frozen = Schedule(small_config(trainable_layers=0), Counter(learnt=500))
    assert frozen.due(80, waiting(99), is_urgent=True, is_idle=True) is None
    assert frozen.is_rested(80, waiting(99), is_urgent=True)
