import msgspec
import torch
from torch import Tensor

from learner.quality.anchor import Anchor, anchor_of, named
from learner.quality.comparison import Comparison, Paired
from tests.learner.small import labelled
from tests.learner.streams import TOPICS

SAMPLES = labelled(0, 20)
ROWS = torch.tensor([TOPICS.index(sample.label) for sample in SAMPLES])


def logits(rows: Tensor, num_classes: int = len(TOPICS)) -> Tensor:
    """Logits that name these rows."""
    return torch.nn.functional.one_hot(rows, num_classes).float()


def anchor(num_right: int, num_classes: int = len(TOPICS)) -> Anchor:
    """An anchor that named the first `num_right` of SAMPLES rightly."""
    rows = torch.where(num_classes > ROWS, ROWS, -1)
    return anchor_of(SAMPLES, torch.arange(20) < num_right, rows, num_classes)


def test_what_was_right_and_is_wrong_is_lost() -> None:
    named_rows = torch.where(torch.arange(20) < 4, (ROWS + 1) % 5, ROWS)
    assert anchor(10).beside(SAMPLES, logits(named_rows), ROWS).overall == Paired(num=20, right=10, lost=4, won=10)


def test_the_candidate_chooses_among_the_classes_that_the_anchor_had() -> None:
    both = logits(ROWS) + 2 * logits(torch.full_like(ROWS, 3))  # a newer class takes everything
    beside = anchor(20, num_classes=3).beside(SAMPLES, both, ROWS)
    assert beside.overall == Paired(num=12, right=12, lost=0, won=0)
    assert anchor(20).beside(SAMPLES, both, ROWS).overall.lost == 16


def test_samples_that_came_later_do_not_count() -> None:
    more = [*SAMPLES, *labelled(20, 30)]
    rows = torch.tensor([TOPICS.index(sample.label) for sample in more])
    assert anchor(20).beside(more, logits(rows), rows).overall == Paired(num=20, right=20, lost=0, won=0)


def test_an_anchor_gives_way_to_one_as_good_and_to_one_that_covers_twice_as_much() -> None:
    worse = Comparison(overall=Paired(num=20, right=15, lost=2, won=1))
    as_good = Comparison(overall=Paired(num=20, right=15, lost=1, won=1))
    assert not anchor(15).is_followed(worse, 40)
    assert anchor(15).is_followed(as_good, 40)
    assert anchor(15).is_followed(worse, 41)


def test_an_anchor_survives_a_checkpoint() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(anchor(7)), type=Anchor) == anchor(7)


def test_without_classes_nothing_is_named() -> None:
    assert named(torch.zeros(3, 0)).tolist() == [-2, -2, -2]
