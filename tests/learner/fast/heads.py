"""Heads of users for the tests: a ridge regression of ten lines, and classes that are no heads or fail."""

import itertools

import torch
from torch import Tensor

from lifelong import HeadSums


def import_path(found: type, arguments: str = "") -> str:
    """Returns the import path of one of these classes, with the arguments in its brackets."""
    return f"{found.__module__}:{found.__name__}{arguments}"


class Ridge:
    """Ridge regression on the features, as in a textbook."""

    def __init__(self, penalty: float = 0.01) -> None:
        self._penalty = penalty

    def weights(self, sums: HeadSums) -> Tensor:
        """Returns the weights; `penalty` is a share of the mean diagonal."""
        diagonal_R = sums.gram_RR.diagonal()
        diagonal_R += self._penalty * diagonal_R.mean()
        weights_CR: Tensor = torch.linalg.solve(sums.gram_RR, sums.class_CR.T).T
        return weights_CR


class FailsLater(Ridge):
    """Fails with more than four classes."""

    def weights(self, sums: HeadSums) -> Tensor:
        if len(sums.counts_C) > 4:
            raise ValueError("five are too many")
        return super().weights(sums)


class Counts:
    """Returns other weights at each call."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def weights(self, sums: HeadSums) -> Tensor:
        return torch.full(sums.class_CR.shape, float(next(self._numbers)))


class Transposed(Ridge):
    def weights(self, sums: HeadSums) -> Tensor:
        return super().weights(sums).T


class Infinite:
    def weights(self, sums: HeadSums) -> Tensor:
        return sums.class_CR / 0.0


class NoHead:
    """Has no weights."""
