import math

import msgspec
import pytest
import torch

from learner.learner import Learner
from learner.rounds.round import Phase, TrainedEncoder
from learner.rounds.schedule import BEHIND_S
from learner.state.checkpoints import VersionState
from learner.state.snapshot import decode, encode
from tests.learner.small_learner import small_learner
from tests.learner.streams import MARKS, answer, feedback, label_of, stream

OFFSETS = {"answers.v1/0": 5, "feedback.v1/0": 6}


def fed(learner: Learner, first: int, last: int) -> Learner:
    """Learns the events from `first` to before `last`, with a unit of slow work after every 20."""
    for number in range(first, last, 20):
        learner.learn_many(stream(number, min(number + 20, last)), {"feedback.v1/0": last})
        learner.tick()
    return learner


def copy_learner(learner: Learner, **changed: float | str) -> Learner:
    copy = small_learner(**changed)
    copy.restore(decode(encode(learner.export(None))))
    return copy


def assert_same(one: Learner, other: Learner) -> None:
    mine = one.export(None)
    theirs = other.export(None)
    assert mine.facts == theirs.facts and mine.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(value, theirs.tensors[name]) for name, value in mine.tensors.items())


def assert_knows_each_sample_and_each_name(learner: Learner) -> None:
    num_samples = learner.counts["learnt"] + len(learner.fast_head.ridge.classes)
    assert learner.fast_head.ridge.num_samples == num_samples
    assert len(learner.replay) == num_samples


def test_every_matched_label_is_learnt_or_in_the_holdout() -> None:
    it = fed(small_learner(trainable_layers=0), 0, 100)
    assert it.join.counts["matched"] == 100
    assert it.counts["learnt"] + it.counts["holdout"] == 100
    assert it.counts["holdout"] == len(it.knowledge.holdout)
    assert len(it.knowledge.holdout) > 3
    assert len(it.knowledge.holdout) < 25
    assert_knows_each_sample_and_each_name(it)
    assert it.prequential.accuracy == 0.2 and it.offsets == {"feedback.v1/0": 100}


@pytest.mark.parametrize(("replay_samples", "num_rounds"), [(0, 0), (24, 0), (25, 1), (1_000, 1)])
def test_a_memory_that_holds_few_samples_of_a_class_is_not_trained_on(replay_samples: int, num_rounds: int) -> None:
    it = fed(small_learner(replay_samples=replay_samples, rehearse_after_s=1.0, slow_rate=1e-5), 0, 80)
    it.tick()
    assert it.counts["rounds"] == num_rounds
    assert it.is_rested == (not num_rounds)


def test_a_class_beyond_the_capacity_is_refused_and_counted() -> None:
    it = small_learner(holdout_share=0.0)
    for number in range(12):
        it.learn_many([answer(number), feedback(number, label=f"class {number}")], OFFSETS)
    assert len(it.fast_head.ridge.classes) == 8
    assert it.counts["learnt"] == 8
    assert it.counts["over_capacity"] == 4


def test_the_name_of_a_class_is_its_first_sample_once() -> None:
    it = small_learner(holdout_share=0.0)
    for number in range(3):
        it.learn_many([answer(number), feedback(number, label="lost_card")], OFFSETS)
    assert [sample.text for sample in it.replay.samples() if not sample.subject] == ["lost card"]
    assert it.counts["learnt"] == 3
    assert it.fast_head.ridge.num_samples == 4
    assert len(it.replay) == 4


def test_a_restored_learner_goes_on_bit_for_bit() -> None:
    whole = fed(small_learner(trainable_layers=0), 0, 50)
    restored = copy_learner(whole, trainable_layers=0)
    assert_same(whole, restored)
    assert_same(fed(whole, 50, 90), fed(restored, 50, 90))


def test_letters_that_were_not_acknowledged_are_in_the_checkpoint() -> None:
    """B17: a letter about a label whose effect is in the checkpoint is in it, too, until the bus has taken it."""
    it = small_learner(trainable_layers=0)
    it.letters.add(it.learn_many([answer(1), feedback(1, label=" ")], OFFSETS))
    (letter,) = copy_learner(it, trainable_layers=0).letters.export().quarantined
    assert (letter.reason, letter.event_id) == ("blank", "event-1")


def find_training(learner: Learner) -> TrainedEncoder:
    """What the round under way trains."""
    assert learner.knowledge.round is not None and learner.knowledge.round.trained is not None
    return learner.knowledge.round.trained


def test_a_restored_learner_repeats_the_round_from_its_plan() -> None:
    whole = fed(small_learner(), 0, 100)
    assert len(find_training(whole).losses) > 0
    restored = copy_learner(whole)
    assert find_training(restored).plan == find_training(whole).plan
    assert not find_training(restored).losses
    for learner in (whole, restored):
        while learner.has_work:
            learner.tick()
    assert_same(whole, restored)
    assert whole.counts["rounds_adopted"] + whole.counts["rounds_dropped"] == 1


def test_a_restored_learner_has_the_adopted_encoder() -> None:
    whole = fed(small_learner(slow_rate=1e-5), 0, 80)
    while whole.has_work:
        whole.tick()
    restored = copy_learner(whole)
    assert whole.counts["rounds_adopted"] == 1
    assert restored.fast_head.served.key == whole.fast_head.served.key
    assert restored.fast_head.served.key != small_learner().fast_head.served.key
    assert_same(fed(whole, 80, 99), fed(restored, 80, 99))


def test_drift_makes_a_slow_round_due_at_once() -> None:
    it = small_learner(slow_every_labels=5_000, drift_min_labels=150)
    for number in range(150):
        it.learn_many([answer(number, label=label_of(number)), feedback(number)], OFFSETS)
        it.tick()
    assert it.counts["rounds"] == 0
    assert it.drift.take_num_detected() == 0
    for number in range(150, 200):
        it.learn_many([answer(number, label="wrong"), feedback(number)], OFFSETS)
    assert it.drift.is_urgent
    assert it.drift.take_num_detected() > 0
    assert it.drift.take_num_detected() == 0
    assert_same(it, copy_learner(it, slow_every_labels=5_000, drift_min_labels=150))
    it.tick()
    assert it.counts["rounds"] == 1 and not it.export(None).facts.drift.is_urgent


def test_drift_alone_starts_no_round_without_enough_labels() -> None:
    it = small_learner(drift_min_labels=50, holdout_share=0.0)
    it.drift.is_urgent = True
    rounds = []
    for number in range(50):
        it.learn_many([answer(number), feedback(number)], OFFSETS)
        it.tick()
        rounds.append(it.counts["rounds"])
    assert rounds == [0] * 49 + [1]


def test_a_worse_encoder_is_dropped() -> None:
    it = fed(small_learner(slow_rate=1e-5), 0, 80)
    training = find_training(it)
    while len(training.losses) < len(training.plan.steps):
        it.tick()
    # With a last block of zeros all texts have the same vector.
    with torch.no_grad():
        for weight in training._training.strata.parameters():
            if weight.requires_grad:
                weight.zero_()
    assert worked(it).counts["rounds_dropped"] == 1
    assert it.fast_head.served.key == small_learner().fast_head.served.key


def test_a_sample_that_makes_a_step_not_finite_is_left_out_from_then_on() -> None:
    """F10: each step that drew it was skipped, in this round and in all later ones."""
    it = fed(small_learner(slow_rate=1e-5), 0, 80)
    training = find_training(it)
    poison = training.plan.steps[0].fresh[0]
    served = it.fast_head.served
    layer = training._training.first_layer
    x_TD, _ = served.prefix([poison.text], layer)
    served.activations.add(served._digest_below(layer), poison.text, x_TD * 1e30)
    while it.knowledge.round is not None:
        it.tick()
    assert training.excluded == {poison}
    assert [math.isnan(loss) for loss in training.losses] == [True] + [False] * (len(training.plan.steps) - 1)
    assert poison not in it.knowledge.replay.samples() and it.counts["samples_set_apart"] == 1
    assert it.counts["rounds_not_finite"] == 0
    assert all(value.isfinite().all() for value in it.knowledge.top.values())


def test_a_round_goes_on_when_a_backlog_is_learnt() -> None:
    it = fed(small_learner(slow_rate=1e-5), 0, 80)
    num_steps = len(find_training(it).losses)
    it.schedule.behind_s = 2 * BEHIND_S
    assert not any(it.tick() for _ in range(5)) and len(find_training(it).losses) == num_steps
    it.schedule.behind_s = 0.0
    assert worked(it).counts["rounds_adopted"] == 1


def worked(learner: Learner, *, is_idle: bool = False) -> Learner:
    """Does all slow work that is due."""
    learner.tick(is_idle=is_idle)
    while learner.has_work:
        learner.tick(is_idle=is_idle)
    return learner


def test_silence_is_used_to_go_over_the_memory_once() -> None:
    it = worked(fed(small_learner(slow_rate=1e-5, rehearse_after_s=1.0), 0, 80))
    assert it.counts["rounds"] == 1 and not it.is_rested
    it.tick(is_idle=True)
    plan = find_training(it).plan
    steps = plan.steps
    assert all(len(step.samples) == 8 for step in steps)
    assert 8 * len(steps) >= len(it.replay)
    assert set(plan.labels) == set(it.fast_head.ridge.classes)
    rested = worked(it, is_idle=True)
    assert rested.is_rested and (rested.counts["rehearsals"], rested.counts["rounds"]) == (1, 2)


def test_silence_is_used_to_learn_from_texts_without_a_label_and_a_restart_repeats_that() -> None:
    it = fed(small_learner(slow_rate=1e-5, rehearse_after_s=1.0), 0, 80)
    it.learn_many([answer(number) for number in range(100, 270)], OFFSETS)
    while not it.counts["pseudo_label_rounds"]:
        it.tick(is_idle=True)
    assert it.knowledge.round and it.knowledge.round.phase is Phase.PSEUDO_LABEL
    it.tick()
    restored = copy_learner(it, slow_rate=1e-5, rehearse_after_s=1.0)
    assert find_training(restored).plan == find_training(it).plan
    assert_same(worked(it), worked(restored))
    assert it.fast_head.ridge.num_samples == len(it.replay) and not it.is_rested
    assert worked(it, is_idle=True).is_rested
    assert (it.counts["rehearsals"], it.counts["pseudo_label_rounds"]) == (1, 2)


def test_a_learner_that_never_rehearses_is_at_rest_after_its_round() -> None:
    assert worked(fed(small_learner(slow_rate=1e-5), 0, 80)).is_rested


def test_labels_learnt_during_a_round_are_known_afterwards() -> None:
    it = fed(small_learner(slow_rate=1e-5), 0, 70)
    number = 70
    while it.has_work:
        it.learn_many(stream(number, number + 3), OFFSETS)
        it.tick()
        number += 3
    assert it.counts["rounds_adopted"] == 1
    assert_knows_each_sample_and_each_name(it)


def test_offsets_are_kept_with_what_is_known_of_the_logs_there() -> None:
    """B25 no. 11."""
    it = small_learner()
    it.learn_many([answer(1), feedback(1)], OFFSETS, MARKS)
    assert (copy_learner(it).offsets, copy_learner(it).marks) == (OFFSETS, MARKS)


def test_going_back_sets_labels_aside_but_keeps_what_was_read() -> None:
    it = fed(small_learner(trainable_layers=0), 0, 40)
    snapshot = it.export(None)
    learnt = it.counts["learnt"]
    fed(it, 40, 100)
    it.go_back(VersionState(snapshot), version=3)
    assert it.version == 3 and it.offsets == {"feedback.v1/0": 100}
    assert it.counts["learnt"] == learnt
    assert it.fast_head.ridge.num_samples == learnt + len(it.fast_head.ridge.classes)
    assert it.join.counts["matched"] == 100
    assert learnt + it.counts["holdout"] + it.counts["set_aside"] == 100
    it.learn_many([feedback(50)], OFFSETS)
    assert it.counts["learnt"] == learnt and it.join.counts["duplicate"] == 11


def test_what_was_learnt_of_a_subject_can_be_erased_from_the_memory() -> None:
    changed: dict[str, float | str] = {
        "holdout_share": 0.0,
        "learn_names": False,
        "replay_policy": "experience-balanced",
    }
    it = small_learner(trainable_layers=0, **changed)
    for number in range(9):
        it.learn_many(
            [msgspec.structs.replace(answer(number), key=f"customer {number % 3}"), feedback(number)], OFFSETS
        )
    copy = copy_learner(it, trainable_layers=0, **changed)
    assert copy.replay.erase("customer 1".__eq__) == 3
    assert (len(copy.replay), len(it.replay)) == (6, 9)
