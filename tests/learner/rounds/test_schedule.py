"""When a slow round is due, and its plan."""

import math
from collections import Counter

from learner.intake.join import Join
from learner.intake.trust import LabelTrust
from learner.memory import Replay, hash_key
from learner.progress import LearnerProgress
from learner.rounds.plan import RoundPlan
from learner.rounds.schedule import BEHIND_S, UNSETTLED, Schedule
from learner.samples import Labelled
from tests.learner.intake.joins import label_names
from tests.learner.small_learner import labelled, small_config
from tests.learner.streams import answer
from wire.records import TIERS

EVERY = 60
"""The number of labels between two rounds in the small configuration."""


def memory(size: int) -> Replay[Labelled]:
    return make_replay_buffer(labelled(0, size))


def make_replay_buffer(samples: list[Labelled]) -> Replay[Labelled]:
    replay = Replay[Labelled](1_000, 1 << 20, key_of=hash_key(0))
    replay.add(samples)
    return replay


def waiting(size: int) -> Join:
    """A join with `size` answers without a label."""
    config = small_config()
    join = Join(config, LabelTrust(config), label_names(config))
    join.match(answer(number) for number in range(size))
    return join


def schedule(**so_far: int) -> tuple[Schedule, LearnerProgress]:
    """A schedule, and the progress that it reads and changes."""
    progress = LearnerProgress(**so_far)
    return Schedule(small_config(rehearse_after_s=1.0, rehearsal_steps=30), progress, Counter()), progress


def begun(
    it: Schedule, fresh: list[Labelled], size: int, join: Join, *, is_urgent: bool = False, is_idle: bool = False
) -> RoundPlan | None:
    """Begins the round that is due, if any; returns its plan."""
    kind = it.due(size, join, is_urgent=is_urgent, is_idle=is_idle)
    return it.begin(kind, fresh, memory(size), join, layers=1) if kind else None


def test_a_round_waits_for_its_labels_and_moves_its_mark() -> None:
    it, progress = schedule(num_labels=EVERY - 1)
    assert begun(it, labelled(0, 9), 80, waiting(0)) is None
    progress.num_labels = EVERY
    plan = begun(it, labelled(0, 9), 80, waiting(0))
    assert plan
    assert plan.number == 1
    assert progress.num_rounds == 1
    assert progress.round_at == EVERY
    assert len(plan.steps) == EVERY // 20 and all(len(step.fresh) == 4 for step in plan.steps)
    assert begun(it, labelled(0, 9), 80, waiting(0)) is None


def test_a_round_waits_until_the_labels_beyond_the_buffer_have_doubled() -> None:
    it, progress = schedule(num_labels=280, round_at=280)
    assert it.labels_to_round(280, is_urgent=False) == EVERY
    assert it.labels_to_round(80, is_urgent=False) == 200
    assert it.labels_to_round(80, is_urgent=True) < 200
    progress.num_labels += 199
    assert begun(it, [], 80, waiting(0)) is None
    progress.num_labels += 1
    assert begun(it, [], 80, waiting(0)) is not None
    assert it.labels_to_round(80, is_urgent=False) == 400


def test_a_round_waits_while_the_encoder_in_use_is_not_that_of_the_stable_version() -> None:
    it, progress = schedule(num_labels=EVERY)
    it.is_settled = False
    assert it.labels_to_round(10, is_urgent=True) == (UNSETTLED - 1) * EVERY
    # A rehearsal does not wait for this growth.
    assert it.is_rested(10, waiting(0), is_urgent=True) is False
    assert it.due(10, waiting(0), is_urgent=True, is_idle=False) is None
    progress.num_labels = UNSETTLED * EVERY
    assert it.due(10, waiting(0), is_urgent=False, is_idle=False) == "labels"
    progress.num_labels = EVERY
    it.is_settled = True
    assert it.due(10, waiting(0), is_urgent=False, is_idle=False) == "labels"


def test_a_round_is_not_due_before_as_many_labels_as_are_said() -> None:
    it, progress = schedule(num_labels=EVERY - 20)
    assert it.labels_to_round(80, is_urgent=False) == 20
    progress.num_labels += 19
    assert begun(it, [], 80, waiting(0)) is None and it.labels_to_round(80, is_urgent=False) == 1
    progress.num_labels += 1
    assert begun(it, [], 80, waiting(0)) is not None and it.labels_to_round(900, is_urgent=False) == 90
    assert (
        Schedule(small_config(trainable_layers=0), progress, Counter()).labels_to_round(80, is_urgent=False) == math.inf
    )


def test_without_samples_to_train_on_no_poll_ends_for_a_round() -> None:
    it, progress = schedule(num_labels=EVERY - 20)
    assert it.labels_to_round(0, is_urgent=False) == 20
    progress.num_labels = 3 * EVERY
    assert it.labels_to_round(0, is_urgent=False) == math.inf
    assert it.due(0, waiting(0), is_urgent=False, is_idle=True) is None


def test_after_a_drift_fewer_labels_are_enough() -> None:
    progress = LearnerProgress(num_labels=EVERY + 9, round_at=EVERY)
    it = Schedule(small_config(drift_min_labels=10), progress, Counter())
    assert begun(it, [], 80, waiting(0), is_urgent=True) is None
    progress.num_labels += 1
    assert begun(it, [], 80, waiting(0), is_urgent=False) is None
    assert begun(it, [], 80, waiting(0), is_urgent=True) is not None


def test_a_rehearsal_trains_on_the_buffer_alone_with_the_minimum_of_steps() -> None:
    it, progress = schedule(num_labels=EVERY, round_at=EVERY)
    assert not it.is_rested(80, waiting(0), is_urgent=False)
    plan = begun(it, labelled(500, 509), 80, waiting(0), is_idle=True)
    assert plan and len(plan.steps) == 30 and progress.rehearsed_at == EVERY
    known = set(memory(80).samples())
    for step in plan.steps:
        assert known.issuperset(step.samples)
    assert it.is_rested(80, waiting(0), is_urgent=False)


def test_a_large_buffer_delays_a_round_but_no_rehearsal() -> None:
    it, progress = schedule(num_labels=EVERY)
    assert begun(it, [], 900, waiting(0)) is None
    plan = begun(it, [], 900, waiting(0), is_idle=True)
    assert plan and progress.rehearsed_at == EVERY and len(plan.steps) == 2 * 900 // 8


def test_unlabelled_texts_are_trained_on_once_they_are_twice_the_buffer() -> None:
    it, progress = schedule(num_labels=EVERY, round_at=EVERY, rehearsed_at=EVERY)
    few = waiting(159)
    many = waiting(160)
    assert begun(it, [], 80, few, is_idle=True) is None
    assert it.is_rested(80, few, is_urgent=False) and not it.is_rested(80, many, is_urgent=False)
    assert begun(it, [], 80, many) is None
    plan = begun(it, [], 80, many, is_idle=True)
    assert plan and sorted(plan.unlabelled) == sorted(many.unlabelled(160))
    assert all((len(step.fresh), len(step.draws[0])) == (6, 2) for step in plan.steps)
    assert not it.is_rested(80, many, is_urgent=False)
    again = begun(it, [], 80, many, is_idle=True)
    assert again and again.unlabelled and progress.num_pseudo_rounds == 2 and it.is_rested(80, many, is_urgent=False)


def test_texts_without_a_label_come_after_the_rehearsal_and_only_if_they_may() -> None:
    it, progress = schedule(num_labels=EVERY, round_at=EVERY)
    plan = begun(it, [], 80, waiting(160), is_idle=True)
    assert plan and not plan.unlabelled and progress.rehearsed_at == EVERY
    rested = LearnerProgress(num_labels=EVERY, round_at=EVERY, rehearsed_at=EVERY)
    # Without draws no sample of such a round would have a label.
    draws_nothing = {"slow_strategy": "naive"}
    for off in ({"learn_unlabelled": False}, draws_nothing):
        it = Schedule(small_config(rehearse_after_s=1.0, **off), rested, Counter())
        assert begun(it, [], 80, waiting(160), is_idle=True) is None
        assert it.is_rested(80, waiting(160), is_urgent=False)


def test_an_empty_buffer_and_a_frozen_encoder_have_nothing_to_do() -> None:
    it, _ = schedule(num_labels=500)
    assert begun(it, [], 0, waiting(0), is_urgent=True, is_idle=True) is None
    frozen = Schedule(small_config(trainable_layers=0), LearnerProgress(num_labels=500), Counter())
    assert frozen.due(80, waiting(99), is_urgent=True, is_idle=True) is None
    assert frozen.is_rested(80, waiting(99), is_urgent=True)


def test_a_round_is_counted_by_its_tier_and_the_deepest_one_is_not_written_down() -> None:
    counts = Counter[str]()
    config = small_config(trainable_layers=1, deeper_layers=(2, 4))
    it = Schedule(config, LearnerProgress(num_labels=EVERY), counts)
    plans = [it.begin("labels", labelled(0, 9), memory(80), waiting(0), layers=layers) for layers in config.tiers]
    assert [plan.layers for plan in plans] == [1, 2, 0]
    assert [counts[f"rounds_{tier}"] for tier in TIERS] == [1, 1, 1]
    alone = Schedule(small_config(), LearnerProgress(num_labels=EVERY), counts)
    assert alone.begin("labels", labelled(0, 9), memory(80), waiting(0), layers=1).layers == 0
    assert counts["rounds_task"] == 2


def test_no_round_begins_behind_a_backlog_and_one_on_all_of_it_does_afterwards() -> None:
    it, progress = schedule(num_labels=EVERY)
    it.behind_s = 2 * BEHIND_S
    assert begun(it, labelled(0, 9), 80, waiting(0), is_urgent=True, is_idle=True) is None
    assert it.labels_to_round(80, is_urgent=False) == math.inf, "polls end nowhere"
    assert not it.is_rested(80, waiting(0), is_urgent=False)
    progress.num_labels = 10 * EVERY
    it.behind_s = BEHIND_S
    plan = begun(it, labelled(0, 9), 80, waiting(0))
    assert plan and len(plan.steps) == 10 * EVERY // 20
