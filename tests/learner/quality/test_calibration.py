"""Temperature and precisions are measured at intervals, a unit at a time, and hold for the next versions."""

from dataclasses import replace

from learner.quality.calibration import REVIEW_S
from learner.release.candidate import Candidate, CandidateMaker
from learner.stopwatch import Stopwatch
from tests.learner.small_learner import small_config, small_learner
from tests.learner.streams import stream


def reviewed(maker: CandidateMaker, candidate: Candidate) -> bool:
    """Whether the precisions of the next version differ from the precisions of `candidate`."""
    return maker._review.precisions != candidate.precisions


def test_a_new_encoder_is_measured_before_its_first_version() -> None:
    learner = small_learner(trainable_layers=0)
    learner.learn_many(stream(0, 40), {})
    candidate = CandidateMaker(small_config()).make(learner.knowledge, Stopwatch(), anew=False)
    assert [precision.name for precision in candidate.precisions] == ["int8", "int4"]
    assert candidate.precisions[0].accuracy > 0 and candidate.probes


def test_a_review_is_done_a_unit_at_a_time_after_a_while() -> None:
    learner = small_learner(trainable_layers=0)
    learner.learn_many(stream(0, 10), {})
    maker = CandidateMaker(small_config())
    # Nothing was published yet.
    maker.review(learner.knowledge, 0.0)
    first = maker.make(learner.knowledge, Stopwatch())
    maker.adopt(first, learner)
    learner.learn_many(stream(10, 300), {})
    second = maker.make(learner.knowledge, Stopwatch(), anew=False)
    assert second.precisions == first.precisions and second.solution.temperature == first.solution.temperature
    maker.adopt(second, learner)
    learner.knowledge.calibrate(0.5)
    units = 0
    while not reviewed(maker, second):
        maker.review(learner.knowledge, 1.0)
        units += 1
    assert units > 2 and learner.knowledge.temperature != 0.5
    before = maker._review.precisions
    learner.learn_many(stream(300, 600), {})
    for _ in range(units + 2):
        maker.review(learner.knowledge, 1.0 + REVIEW_S / 2)
    assert maker._review.precisions == before


def test_after_a_restart_the_review_of_the_parent_holds_until_the_next_one() -> None:
    learner = small_learner(trainable_layers=0)
    learner.learn_many(stream(0, 40), {})
    parent = CandidateMaker(small_config()).make(learner.knowledge, Stopwatch())
    maker = CandidateMaker(small_config())
    maker.resume(parent)
    learner.learn_many(stream(40, 300), {})
    first = maker.make(learner.knowledge, Stopwatch(), anew=False)
    assert first.precisions == parent.precisions
    assert first.solution.temperature == parent.solution.temperature
    maker.adopt(first, learner)
    for _ in range(9):
        maker.review(learner.knowledge, 1.0)
    assert not reviewed(maker, first)
    for _ in range(9):
        maker.review(learner.knowledge, 1.0 + REVIEW_S)
    assert reviewed(maker, first)


def test_without_the_results_of_all_precisions_the_first_version_is_reviewed() -> None:
    learner = small_learner(trainable_layers=0)
    learner.learn_many(stream(0, 40), {})
    parent = CandidateMaker(small_config()).make(learner.knowledge, Stopwatch())
    maker = CandidateMaker(small_config())
    maker.resume(replace(parent, precisions=parent.precisions[:1]))
    assert len(maker.make(learner.knowledge, Stopwatch(), anew=False).precisions) == 2


def test_a_review_of_another_encoder_is_not_begun() -> None:
    learner = small_learner(trainable_layers=0)
    learner.learn_many(stream(0, 40), {})
    maker = CandidateMaker(small_config())
    maker.adopt(maker.make(learner.knowledge, Stopwatch()), learner)
    served = learner.fast_head.served
    learner.knowledge.fast_head = learner.fast_head.successor(served.with_top({}))
    temperature = learner.knowledge.temperature
    for _ in range(9):
        maker.review(learner.knowledge, 1.0)
    assert learner.knowledge.temperature == temperature
