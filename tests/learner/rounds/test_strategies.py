import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.rounds.strategies import Strategy, class_loss
from tests.learner.rounds.outputs import outputs, weights

LOGITS_BC = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
LABELS_B = torch.tensor([0, 0])


def test_the_naive_strategy_follows_the_fresh_samples_alone() -> None:
    w_CD = weights()
    other_CD = weights()
    loss = Strategy().backward([w_CD], outputs(w_CD, 0, 1), [outputs(w_CD, 2)])
    expected = torch.nn.functional.cross_entropy(outputs(other_CD, 0, 1).logits_BC, torch.tensor([0, 1]))
    expected.backward()  # type: ignore[no-untyped-call]
    assert torch.equal(loss, expected.detach()) and torch.equal(w_CD.grad, other_CD.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_the_generalized_loss_is_the_papers(q: float) -> None:
    p = [math.exp(2) / (math.exp(2) + 1), 1 / (1 + math.e)]
    expected = sum((1 - value**q) / q for value in p) / 2
    assert float(class_loss(LOGITS_BC, LABELS_B, q=q)) == pytest.approx(expected, rel=1e-5)


@given(st.lists(st.floats(-20, 20), min_size=3, max_size=3), st.floats(1e-4, 1.0))
def test_the_generalized_loss_lies_between_its_ends(logits: list[float], q: float) -> None:
    logits_BC = torch.tensor([logits], dtype=torch.float64)
    labels_B = torch.tensor([1])
    cross_entropy = float(class_loss(logits_BC, labels_B, q=0.0))
    loss = float(class_loss(logits_BC, labels_B, q=q))
    absolute = float(class_loss(logits_BC, labels_B, q=1.0))
    assert absolute - 1e-9 <= loss
    assert loss <= cross_entropy + 1e-9
    assert loss <= 1 / q


def test_a_wrong_label_pulls_less_the_larger_q_is() -> None:
    pulls = []
    for q in (0.0, 0.5, 1.0):
        logits_BC = torch.tensor([[6.0, 0.0]], requires_grad=True)
        class_loss(logits_BC, torch.tensor([1]), q=q).backward()  # type: ignore[no-untyped-call]
        pulls.append(float(logits_BC.grad.abs().sum()))  # type: ignore[union-attr]
    assert pulls[2] > 0
    assert pulls[1] > 5 * pulls[2]
    assert pulls[0] > 5 * pulls[1]


SHARES_BC = torch.tensor([[0.5, 0.5], [0.0, 1.0]])


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_the_loss_of_a_set_is_least_if_its_classes_have_their_shares(q: float) -> None:
    at_shares = class_loss((SHARES_BC + 1e-9).log(), SHARES_BC, q=q)
    for moved in (torch.tensor([[0.8, 0.2], [0.0, 1.0]]), torch.tensor([[0.5, 0.5], [0.4, 0.6]])):
        assert class_loss((moved + 1e-9).log(), SHARES_BC, q=q) > at_shares


@pytest.mark.parametrize("q", [0.0, 0.5])
def test_a_set_of_one_class_is_learnt_as_that_class(q: float) -> None:
    one_hot_BC = torch.nn.functional.one_hot(LABELS_B, 2).float()
    assert float(class_loss(LOGITS_BC, one_hot_BC, q=q)) == pytest.approx(float(class_loss(LOGITS_BC, LABELS_B, q=q)))


def test_a_sample_without_a_class_has_no_loss() -> None:
    assert float(class_loss(LOGITS_BC[:1], torch.zeros(1, 2), q=0.5)) == 0.0
