import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evals.continual.hedged_ridge import ForgettingRidge

M = 12
C = 3
RIDGE = 0.5


def rows(num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns x_NM and one-hot targets_NC, which depend on a random matrix, which depends on `seed`."""
    rng = torch.Generator().manual_seed(seed)
    concept_MC = torch.randn(M, C, generator=rng).double()
    x_NM = torch.randn(num, M, generator=rng).double()
    labels_N = (x_NM @ concept_MC).argmax(dim=1)
    return x_NM, torch.nn.functional.one_hot(labels_N, C).double()


def trained(factors: tuple[float, ...], *parts: tuple[Tensor, Tensor]) -> ForgettingRidge:
    learner = ForgettingRidge(M, C, factors=factors, ridge=RIDGE)
    for x_NM, targets_NC in parts:
        for x_M, target_C in zip(x_NM, targets_NC, strict=True):
            learner.learn(x_M, target_C)
    return learner


def weights(learner: ForgettingRidge) -> Tensor:
    """Returns W_ECM, as the predictions on the unit vectors."""
    return torch.stack([learner.predict_one(x_M) for x_M in torch.eye(M).double()], dim=-1)


def accuracy(learner: ForgettingRidge, part: tuple[Tensor, Tensor], memory: int) -> float:
    x_NM, targets_NC = part
    labels = [int(learner.predict_one(x_M)[memory].argmax()) for x_M in x_NM]
    num_right = sum(label == int(target_C.argmax()) for label, target_C in zip(labels, targets_NC, strict=True))
    return num_right / len(labels)


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(0, 1_000))
def test_without_forgetting_it_is_ridge_regression(num: int, seed: int) -> None:
    x_NM, targets_NC = rows(num, seed)
    gram_MM = x_NM.T @ x_NM + RIDGE * torch.eye(M).double()
    expected_CM = torch.linalg.solve(gram_MM, x_NM.T @ targets_NC).T
    torch.testing.assert_close(weights(trained((1.0,), (x_NM, targets_NC)))[0], expected_CM)


def test_after_a_full_turn_of_penalties_it_is_weighted_ridge_regression() -> None:
    """Each coordinate gets its penalty back once a turn, so the sums differ by at most what a turn forgets."""
    factor = 0.999
    num = 40 * M
    x_NM, targets_NC = rows(num, seed=1)
    age_N1 = factor ** torch.arange(num - 1, -1, -1).double()[:, None]
    gram_MM = x_NM.T @ (age_N1 * x_NM) + RIDGE * torch.eye(M).double()
    expected_CM = torch.linalg.solve(gram_MM, x_NM.T @ (age_N1 * targets_NC)).T
    found_CM = weights(trained((factor,), (x_NM, targets_NC)))[0]
    torch.testing.assert_close(found_CM, expected_CM, rtol=1e-3, atol=1e-5)


def test_memories_are_independent_of_each_other() -> None:
    part = rows(50, seed=3)
    both = weights(trained((1.0, 0.98), part))
    for memory, factor in enumerate((1.0, 0.98)):
        torch.testing.assert_close(both[memory], weights(trained((factor,), part))[0])


def test_after_a_change_the_short_memory_is_right_and_the_long_one_is_not() -> None:
    learner = trained((1.0, 0.98), rows(2_000, seed=1), rows(200, seed=2))
    x_NM, targets_NC = rows(1_000, seed=2)
    unseen = (x_NM[200:], targets_NC[200:])
    assert accuracy(learner, unseen, memory=1) > 0.75
    assert accuracy(learner, unseen, memory=0) < 0.5


def test_columns_that_are_constant_for_long_do_no_harm() -> None:
    """P would grow by 0.98^-5000 if the penalty were not restored; the first row that moves such a column would then
    destroy the weights.
    """
    x_NM, targets_NC = rows(5_500, seed=1)
    x_NM[:5_000, : M // 2] = 0.0
    learner = trained((0.98,), (x_NM, targets_NC))
    assert weights(learner).abs().max() < 10
    assert accuracy(learner, (x_NM[5_000:], targets_NC[5_000:]), memory=0) > 0.8
