from collections.abc import Sequence

import pytest

from learner.fast.fast_head import FastHead
from learner.quality.comparison import Paired
from learner.rounds.next_head import NextHead
from learner.rounds.trial import UNIT, Trial
from learner.samples import Labelled
from rollout import publication_rule
from tests.learner.rounds.rounds import SAMPLES, fast_head
from tests.learner.small_learner import labelled, small_served
from tests.learner.streams import TOPICS

NEW = labelled(200, 300)
FALSE = [sample._replace(label=TOPICS[0]) for sample in SAMPLES]
"""A head that learns these samples predicts the first topic for every text."""


def make_head(samples: Sequence[Labelled]) -> FastHead:
    head = FastHead(small_served(), penalty=0.01)
    head.admit_all(TOPICS)
    head.learn_many(samples)
    return head


def make_trial(
    old: FastHead, next_samples: Sequence[Labelled], *, held: Paired | None = None, limit: int = 1_000
) -> Trial:
    """Returns a trial of a head that has learnt other samples, under the same encoder."""
    next_head = NextHead(old, make_head(next_samples), [], unit=40)
    trial = Trial(old, next_head, holdout_result=held or Paired(), max_labels=limit, rule=publication_rule.verdict)
    trial.unit()()
    return trial


def feed(trial: Trial, samples: Sequence[Labelled]) -> None:
    """Lets both heads learn samples: the old one at once, the next one in a unit."""
    trial._old.admit_all(sample.label for sample in samples)
    trial._old.learn_many(samples)
    trial._next_head.add_waiting(samples)
    trial.unit()()


def verdict(trial: Trial) -> str:
    if trial.is_won or trial.is_lost:
        assert trial.is_over and trial.is_won != trial.is_lost
        return "won" if trial.is_won else "lost"
    return "undecided" if trial.is_over else "open"


def test_both_heads_predict_each_text_before_they_learn_its_label() -> None:
    trial = make_trial(fast_head(), SAMPLES)
    unknown = [Labelled("a text like no other", "unknown")]
    feed(trial, unknown)
    assert trial.paired == Paired(num=1), "nobody knew the class"
    feed(trial, unknown)
    assert trial.paired == Paired(num=2, right=1), "both have learnt it meanwhile"
    assert trial._next_head.head.ridge.count_samples("unknown") == trial._old.ridge.count_samples("unknown") == 2


def test_heads_with_equal_predictions_are_neither_better_nor_worse() -> None:
    trial = make_trial(fast_head(), SAMPLES, limit=100)
    feed(trial, NEW[:90])
    assert (trial.paired.num, trial.paired.won, trial.paired.lost) == (90, 0, 0)
    assert (verdict(trial), trial.progress) == ("open", 0.9)
    feed(trial, NEW[90:])
    assert verdict(trial) == "undecided"


def test_a_trial_ends_as_soon_as_the_next_head_is_better_or_worse_beyond_doubt() -> None:
    better = make_trial(make_head(FALSE), SAMPLES)
    worse = make_trial(fast_head(), FALSE)
    for trial in (better, worse):
        feed(trial, NEW[:40])
        assert trial.paired.num == 40
    assert (verdict(better), verdict(worse)) == ("won", "lost")


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        pytest.param(Paired(num=600, right=500, lost=2, won=40), "won", id="better"),
        pytest.param(Paired(num=600, right=500, lost=40, won=2), "lost", id="worse"),
        pytest.param(Paired(num=60, right=50, lost=2, won=3), "open", id="too few samples"),
    ],
)
def test_no_labels_are_needed_if_the_holdout_decides(held: Paired, expected: str) -> None:
    trial = Trial(
        fast_head(),
        NextHead(fast_head(), fast_head(), [], unit=40),
        holdout_result=held,
        max_labels=1_000,
        rule=publication_rule.verdict,
    )
    assert verdict(trial) == expected


def test_the_encoder_that_lost_more_labels_at_the_end_has_lost() -> None:
    trial = make_trial(fast_head(), SAMPLES[:80] + FALSE[:3], limit=30)
    trial.paired = Paired(num=29, right=29, lost=2, won=1)
    assert verdict(trial) == "open"
    feed(trial, NEW[:1])
    assert verdict(trial) == "lost"


def test_a_unit_is_due_when_enough_labels_wait() -> None:
    trial = make_trial(fast_head(), SAMPLES)
    trial._next_head.add_waiting(NEW[: UNIT - 1])
    found = [trial.is_due]
    trial._next_head.add_waiting(NEW[UNIT - 1 : UNIT])
    found.append(trial.is_due)
    trial.unit()()
    assert [*found, trial.is_due] == [False, True, False] and trial.paired.num == UNIT
