from itertools import pairwise

import torch

from learner.fast.base_solution import MEAN_SQUARE, ridge_penalty, solve_base
from learner.fast.ridge import FULL_SAMPLES, RidgeHead

R = 24
PHI = torch.relu(torch.randn(2_000, R, generator=torch.Generator().manual_seed(0))).double()


def test_it_is_the_solution_of_the_normal_equations() -> None:
    gram_RR = PHI.T @ PHI
    sums_OR = torch.stack([PHI[:700].sum(dim=0), torch.zeros(R).double(), PHI[700:].sum(dim=0)])
    base = solve_base(gram_RR, sums_OR, 3.0)
    regularised_RR = gram_RR + 3.0 * torch.eye(R)
    torch.testing.assert_close(base.weights_OR.double() @ regularised_RR, sums_OR, rtol=1e-4, atol=1e-3)
    assert not base.weights_OR[1].any()
    torch.testing.assert_close(
        base.inverse_times(PHI[:5].float()).double() @ regularised_RR, PHI[:5], rtol=1e-4, atol=1e-4
    )


def test_the_penalty_is_constant_and_then_grows_in_steps_of_five_percent() -> None:
    penalties = [ridge_penalty(num, ridge=0.02) for num in range(0, 3 * FULL_SAMPLES, 100)]
    assert penalties[0] == penalties[FULL_SAMPLES // 100] == 0.02 * FULL_SAMPLES * MEAN_SQUARE
    steps = sorted(set(penalties))
    ratios = [after / before for before, after in pairwise(steps)]
    assert len(ratios) == 22 and all(abs(ratio - 1.05) < 1e-9 for ratio in ratios)


def test_the_penalty_is_about_that_of_the_ridge_head() -> None:
    """The head takes the diagonal of the sums itself where this takes what it is about."""
    head = RidgeHead(R, 1, penalty=0.01)
    head.admit("a")
    head.learn_many(PHI.float(), ["a"] * len(PHI))
    base = solve_base(PHI.T @ PHI, PHI.sum(dim=0, keepdim=True), ridge_penalty(len(PHI), ridge=0.01))
    torch.testing.assert_close(head.solve(), base.weights_OR, rtol=0.02, atol=1e-4)
