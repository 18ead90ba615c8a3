import math

import pytest
import torch

from learner.rounds.strategies import AsymmetricReplay, mask_absent
from tests.learner.rounds.outputs import outputs, weights


def test_only_the_classes_of_the_batch_are_left() -> None:
    logits_BC = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    inf = math.inf
    expected = torch.tensor([[1.0, -inf, 3.0, -inf], [5.0, -inf, 7.0, -inf]])
    assert torch.equal(mask_absent(logits_BC, torch.tensor([2, 0])), expected)


def test_fresh_samples_push_no_other_class_away_and_replayed_ones_do() -> None:
    w_CD = weights()
    AsymmetricReplay().backward([w_CD], outputs(w_CD, 0, 1), [])
    assert w_CD.grad is not None and w_CD.grad[2].abs().sum() == 0 and w_CD.grad[:2].abs().sum() > 0
    AsymmetricReplay().backward([w_CD], outputs(w_CD, 0, 1), [outputs(w_CD, 3)])
    assert w_CD.grad[2].abs().sum() > 0


def test_the_loss_is_the_sum_of_both_parts() -> None:
    w_CD = weights()  # logits of row 0: 0.1, -0.3, 0.5; of row 3: 0.2, 0.4, -0.6
    loss = AsymmetricReplay().loss(outputs(w_CD, 0), [outputs(w_CD, 3)])
    of_replayed = -math.log(math.exp(0.4) / (math.exp(0.2) + math.exp(0.4) + math.exp(-0.6)))
    assert loss.item() == pytest.approx(0.0 + of_replayed, rel=1e-5)


def test_the_robust_loss_takes_masked_classes() -> None:
    w_CD = weights()
    loss = AsymmetricReplay(loss_q=0.7).backward([w_CD], outputs(w_CD, 0, 1), [outputs(w_CD, 3)])
    assert torch.isfinite(loss) and w_CD.grad is not None and torch.isfinite(w_CD.grad).all()
