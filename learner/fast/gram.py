"""The Gram matrix of the random features: the sum of phi^T phi over all texts, float64, to which rows are added.

    rows --collected, FOLD_ROWS--> lower triangle, strip by strip --> symmetric copy, or one triangle for a checkpoint

The matrix is symmetric, so the lower triangle alone is kept up to date. Rows enter it many at a time: a product of 64
rows costs little more than that of one, as both read and write the whole triangle.

Rejected: a product of 8-bit halves of the features by integer instructions. It is a quarter of the time, but adding its
32-bit sums to the matrix takes twice what the product in float64 does.

Shapes: B rows, R features.
"""

from copy import copy
from typing import Final

import torch
from torch import Tensor

FOLD_ROWS: Final = 64
"""Rows that are collected before they enter the matrix."""

NUM_STRIPS: Final = 8
"""Strips of rows in which the lower triangle is updated: with 8, 56 % of the products of the square are made."""


class GramMatrix:
    """Holds the matrix, and the rows that are not in it yet. Rows are on the grid of `learner.fast.ridge`."""

    def __init__(self, num_features: int) -> None:
        self._lower_RR = torch.zeros(num_features, num_features, dtype=torch.float64)
        self._unfolded: list[Tensor] = []

    @property
    def lower_RR(self) -> Tensor:
        """The matrix itself, whose upper triangle says nothing."""
        self._fold()
        return self._lower_RR

    def add(self, phi_BR: Tensor) -> None:
        """Adds the products of these rows."""
        self._unfolded.append(phi_BR)
        if sum(len(rows) for rows in self._unfolded) >= FOLD_ROWS:
            self._fold()

    def remove(self, phi_BR: Tensor) -> None:
        """Takes out the products of rows that were added."""
        self._fold()
        self._add_products(phi_BR, -1)

    def add_matrix(self, gram_RR: Tensor) -> None:
        """Adds a symmetric matrix."""
        self._lower_RR += gram_RR

    def symmetric(self) -> Tensor:
        """Returns a copy of the whole matrix."""
        lower_RR = self.lower_RR
        return lower_RR.tril() + lower_RR.tril(-1).T

    def copy(self) -> "GramMatrix":
        """Returns a matrix of its own with the same sums."""
        copied = copy(self)
        copied._lower_RR = self.lower_RR.clone()
        copied._unfolded = []
        return copied

    def export(self) -> Tensor:
        """Returns a copy of the lower triangle, row by row."""
        lower = [row_R[: place + 1] for place, row_R in enumerate(self.lower_RR)]
        return torch.cat(lower)  # by a mask it takes four times as long, and labels wait

    def restore(self, triangle: Tensor) -> None:
        """Becomes the matrix whose triangle was exported."""
        self._unfolded = []
        self._lower_RR[torch.ones_like(self._lower_RR, dtype=torch.bool).tril_()] = triangle

    def _fold(self) -> None:
        if self._unfolded:
            self._add_products(torch.cat(self._unfolded), 1)
            self._unfolded = []

    def _add_products(self, phi_BR: Tensor, sign: int) -> None:
        """Adds `sign` times the products of these rows to the lower triangle."""
        first = 0
        for strip_SR in self._lower_RR.tensor_split(NUM_STRIPS):
            last = first + len(strip_SR)
            strip_SR[:, :last].addmm_(phi_BR[:, first:last].T, phi_BR[:, :last], alpha=sign)
            first = last
