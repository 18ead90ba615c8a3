"""The contract of all closed-form heads."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evals.continual.heads import KernelLda, NearestMean, StreamingLda
from learner.fast.ridge import RidgeHead
from learner.fast.rows import OnlineClassifier

D = 16
CAPACITY = 4
NAMES = ("a", "b", "c")

HEADS: dict[str, Callable[[], OnlineClassifier]] = {
    "ridge": lambda: RidgeHead(D, CAPACITY, penalty=0.01),
    "nearest_mean": lambda: NearestMean(D, CAPACITY),
    "lda": lambda: StreamingLda(D, CAPACITY),
    "kernel_lda": lambda: KernelLda(D, CAPACITY, num_features=256),
}

every_head = pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)


def samples(num: int, seed: int = 0) -> tuple[Tensor, list[str]]:
    """Returns unit vectors around three directions, class after class."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.arange(num) % len(NAMES)
    x_BD = torch.eye(D)[rows] + 0.1 * torch.randn(num, D, generator=rng)
    return torch.nn.functional.normalize(x_BD, dim=1), [NAMES[row] for row in rows.tolist()]


def trained(head: OnlineClassifier, x_BD: Tensor, labels: list[str]) -> OnlineClassifier:
    for name in NAMES:
        head.admit(name)
    head.learn_many(x_BD, labels)
    return head


@every_head
def test_learnt_classes_are_predicted(make: Callable[[], OnlineClassifier]) -> None:
    head = trained(make(), *samples(60))
    x_BD, labels = samples(30, seed=1)
    assert [head.classes[row] for row in head.predict_many(x_BD).argmax(dim=1).tolist()] == labels


@every_head
@settings(max_examples=20)
@given(order=st.permutations(range(30)), cut=st.integers(1, 29))
def test_order_and_batches_change_nothing(make: Callable[[], OnlineClassifier], order: list[int], cut: int) -> None:
    x_BD, labels = samples(30)
    whole = trained(make(), x_BD, labels)
    parts = make()
    for name in NAMES:
        parts.admit(name)
    for places in (order[:cut], order[cut:]):
        parts.learn_many(x_BD[places], [labels[place] for place in places])
    torch.testing.assert_close(parts.predict_many(x_BD), whole.predict_many(x_BD), rtol=1e-3, atol=1e-3)


@every_head
def test_classes_are_admitted_until_the_rows_are_full(make: Callable[[], OnlineClassifier]) -> None:
    head = make()
    assert [head.admit(name) for name in ("a", "b", "a", "c", "d", "e")] == [True] * 5 + [False]
    assert head.classes == ("a", "b", "c", "d")
    with pytest.raises(KeyError):
        head.learn_many(torch.ones(1, D), ["e"])


@every_head
def test_a_class_without_a_sample_is_not_predicted(make: Callable[[], OnlineClassifier]) -> None:
    head = make()
    for name in NAMES:
        head.admit(name)
    x_BD, labels = samples(60)
    others = [place for place, label in enumerate(labels) if label != "b"]
    head.learn_many(x_BD[others], [labels[place] for place in others])
    assert "b" not in {head.classes[row] for row in head.predict_many(x_BD[others]).argmax(dim=1).tolist()}
