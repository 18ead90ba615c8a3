from itertools import pairwise

import torch

from learner.fast.ridge import FULL_SAMPLES, MEAN_SQUARE, NormalEquations, ridge_penalty

R = 24
PHI = torch.relu(torch.randn(2_000, R, generator=torch.Generator().manual_seed(0))).double()


def test_it_is_the_solution_of_the_normal_equations() -> None:
    gram_RR = PHI.T @ PHI
    sums_CR = torch.stack([PHI[:700].sum(dim=0), torch.zeros(R).double(), PHI[700:].sum(dim=0)])
    base = NormalEquations.of(gram_RR, sums_CR, 3.0).solve()
    regularised_RR = gram_RR + 3.0 * torch.eye(R)
    torch.testing.assert_close(base.weights_CR.double() @ regularised_RR, sums_CR, rtol=1e-4, atol=1e-3)
    assert not base.weights_CR[1].any()
    torch.testing.assert_close(
        base.inverse_times(PHI[:5].float()).double() @ regularised_RR, PHI[:5], rtol=1e-4, atol=1e-4
    )


def test_the_penalty_is_constant_and_then_grows_in_steps_of_five_percent() -> None:
    penalties = [ridge_penalty(num, ridge=0.02) for num in range(0, 3 * FULL_SAMPLES, 100)]
    assert penalties[0] == penalties[FULL_SAMPLES // 100] == 0.02 * FULL_SAMPLES * MEAN_SQUARE
    steps = sorted(set(penalties))
    ratios = [after / before for before, after in pairwise(steps)]
    assert len(ratios) == 22 and all(abs(ratio - 1.05) < 1e-9 for ratio in ratios)


def test_the_penalty_is_about_the_share_of_the_mean_diagonal_of_so_many_samples() -> None:
    diagonal = float((PHI.T @ PHI).diagonal().mean())
    assert abs(ridge_penalty(len(PHI), ridge=0.01) / (0.01 * FULL_SAMPLES / len(PHI) * diagonal) - 1) < 0.02
