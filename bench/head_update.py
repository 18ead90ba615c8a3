"""Measures how fast labels reach the weights of the head: 20 labels at 150 and at 10,000 classes, on one core.

    python -m bench.head_update CLASSES

Texts are random unit vectors around the direction of their class, with the head's random features. The base has learnt
PER_CLASS labels of each class on average, from at most MAX_TEXTS texts, each of which may count several times. Then
batches of 20 labels come until the head has its maximum number of rows, because the cost of an update grows with the
number of rows. An update does what a publication does: it computes V, K and residuals of the new rows, the solution,
and the weights of all classes.

Prints, as JSON, the median milliseconds of an update and of the solve, and the hardware limit over the time of an
update, in percent. The limit is the time of the operations at the rate of the fastest float32 product on this machine,
or the time to read the factor and the weights, whichever is longer.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from statistics import median

import torch
from torch import Tensor

from bench.harness.case import Run
from bench.harness.process import run_module
from bench.harness.timing import elapsed_s
from evals.results.row import Peer, Row
from learner.fast.fast_head import MAX_ROWS
from learner.fast.ridge import BaseSolution, NormalEquations, on_grid, ridge_penalty
from learner.fast.solver import IncrementalHead
from model.config import StrataConfig
from model.head import features, projection
from model.kinds import Entries

GOAL_MS = {150: 12, 10_000: 60}
"""Number of classes -> the goal for 20 labels, in milliseconds."""


def measure(run: Run) -> Iterator[Row]:
    for num_classes, goal_ms in GOAL_MS.items():
        measured = run_module("bench.head_update", str(num_classes))
        name = f"head_update.{num_classes}_classes"
        yield Row.of(name, measured["update_ms"], "ms/20 labels", goal=f"<= {goal_ms}")
        solve = Peer("the whole solve", round(1e3 / measured["solve_ms"], 2))
        per_s = round(1e3 / measured["update_ms"], 1)
        yield Row.of(f"{name}.per_second", per_s, "updates/s", peers=(solve,))
        yield Row.of(
            f"{name}.floor", measured["percent_of_limit"], "% of the limit", note=f"the limit: {measured['limit']}"
        )


PER_CLASS = 100
MAX_TEXTS = 20_000
BATCH = 20
BATCHES = MAX_ROWS // BATCH
REPEATS = 5
SPREAD = 0.8
"""The length of the random vector that a text adds to the unit vector of its class. Their cosine is about 0.8."""

CONFIG = StrataConfig(vocab=1, d_model=384, n_layers=1, n_heads=1, d_ff=1)


class TextDraws:
    """Draws random texts: their features and their classes."""

    def __init__(self, num_classes: int) -> None:
        self._rng = torch.Generator().manual_seed(0)
        self._centres_CD = self._unit(num_classes)
        self._proj_RD = projection(CONFIG)

    def draw(self, num: int) -> tuple[Tensor, Tensor]:
        """Returns phi_BR on the grid of the sums, and rows_B."""
        rows_B = torch.randint(len(self._centres_CD), (num,), generator=self._rng)
        z_BD = torch.nn.functional.normalize(self._centres_CD[rows_B] + SPREAD * self._unit(num), dim=1)
        return on_grid(features(z_BD, self._proj_RD)).float(), rows_B

    def _unit(self, num: int) -> Tensor:
        return torch.nn.functional.normalize(torch.randn(num, CONFIG.d_model, generator=self._rng), dim=1)


def main(num_classes: int) -> None:
    torch.set_num_threads(1)
    texts = TextDraws(num_classes)
    num_labels = PER_CLASS * num_classes
    phi_NR, rows_N = texts.draw(min(num_labels, MAX_TEXTS))
    times = num_labels / len(rows_N)
    sums_CR = times * torch.zeros(num_classes, CONFIG.head_features).index_add_(0, rows_N, phi_NR).double()
    gram_RR = times * (phi_NR.T @ phi_NR).double()
    equations = NormalEquations.of(gram_RR, sums_CR, ridge_penalty(num_labels, ridge=0.01))
    solve_s = elapsed_s(equations.solve)
    base = equations.solve()
    batches = [texts.draw(BATCH) for _ in range(BATCHES)]
    times_s: list[float] = []
    for _ in range(REPEATS):
        head = IncrementalHead(base)
        for phi_BR, rows_B in batches:
            times_s.append(elapsed_s(partial(update, head, phi_BR, rows_B)))
    limit_s, limit = _limit(base)
    measured = {
        "update_ms": round(1e3 * median(times_s), 2),
        "solve_ms": round(1e3 * solve_s, 1),
        "percent_of_limit": round(100 * limit_s / median(times_s), 1),
        "limit": limit,
    }
    print(json.dumps(measured))


def update(head: IncrementalHead, phi_BR: Tensor, rows_B: Tensor) -> Tensor:
    """Learns a batch; returns the weights of all classes."""
    head.learn_many(phi_BR, Entries(rows_B))
    return head.weights(torch.arange(len(head.base.weights_CR)))


def operations(num_classes: int) -> int:
    """Counts the operations of an update with half of the maximum rows.

    A product and its sum are two operations, and an inverse of N rows is 2 N^3.
    """
    num_features = CONFIG.head_features
    num_rows = MAX_ROWS // 2
    new_rows = BATCH * (2 * num_features**2 + 4 * num_rows * num_features + 2 * num_features * num_classes)
    solution = 2 * num_rows**3 + 4 * num_rows**2 * num_classes
    return new_rows + solution + 2 * num_rows * num_features * num_classes


def _limit(base: BaseSolution) -> tuple[float, str]:
    """Returns the least time of a mean update on this machine, in seconds, and a description of the limit.

    Each of the two solves reads half of the factor.
    """
    num_operations = operations(len(base.weights_CR))
    a_MK = torch.randn(1024, 2048)
    b_KN = torch.randn(2048, 2048)
    peak_s = min(elapsed_s(partial(torch.mm, a_MK, b_KN)) for _ in range(2 * REPEATS))
    multiply_s = num_operations * peak_s / (2 * 1024 * 2048 * 2048)
    reads_s = [min(elapsed_s(part.amax) for _ in range(2 * REPEATS)) for part in (base.factor_RR, base.weights_CR)]
    read_s = sum(reads_s)
    if multiply_s > read_s:
        return multiply_s, f"{num_operations / 1e6:.0f} MFLOP take {1e3 * multiply_s:.1f} ms"
    return read_s, f"factor and weights are read in {1e3 * read_s:.1f} ms"


if __name__ == "__main__":
    main(int(sys.argv[1]))
