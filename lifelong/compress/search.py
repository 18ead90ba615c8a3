"""Searches a space of encoders: by NSGA-II, or at random, with a score for each encoder and the time on this machine.

    Space --draw, child--> Genes --evaluate--> Point: score, MB, ms --fronts, crowding--> parents --> .. --> the front

NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002) keeps the encoders that no other one
beats in every objective, and among equals those in the least crowded part of the front. It starts from encoders whose
layers are all alike and from random ones. A search depends on the seed and the points alone: if a killed search is
repeated with the points that it has found, it goes on where it was.

A score without retraining is a proxy. `kendall_tau` says how well its order agrees with the order after retraining.

Rejected: a library. pymoo and Optuna bring plots, compilers or databases with them; the algorithm has 60 lines.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Final, TypeAlias

import msgspec

from lifelong.compress.space import Genes, Space

POPULATION: Final = 20

UNIFORM_SHARE: Final = 0.5
"""The share of the first population whose layers are all alike."""

MAX_REPEATS: Final = 200
"""Draws until a search stops, since it finds no encoder that it has not evaluated."""

Objectives: TypeAlias = tuple[float, ...]
"""Numbers that are better if they are smaller."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluated encoder. `score` is in [0, 1], `share` is the share of the source's parameters that are stored."""

    genes: Genes
    score: float
    share: float
    megabytes: float
    ms: float

    @property
    def objectives(self) -> Objectives:
        return (-self.score, self.megabytes, self.ms)


Evaluate: TypeAlias = Callable[[Genes], Point]


def nsga2(space: Space, evaluate: Evaluate, *, budget: int, seed: int, population: int = POPULATION) -> list[Point]:
    """Evaluates at most `budget` encoders; returns all points in the order of their evaluation."""
    rng = random.Random(f"nsga2 {seed}")
    found: dict[Genes, Point] = {}

    def first() -> Genes:
        return space.uniform(rng) if rng.random() < UNIFORM_SHARE else space.draw(rng)

    for genes in _unseen(first, found, min(population, budget)):
        found[genes] = evaluate(genes)
    parents = list(found.values())
    while len(found) < budget:
        ranked = _ranked(parents)

        def child(ranked: Sequence[Point] = ranked) -> Genes:
            # Binary tournaments: of two points, the one that is earlier in the ranking.
            one, other = (ranked[min(rng.randrange(len(ranked)), rng.randrange(len(ranked)))] for _ in range(2))
            return space.child(one.genes, other.genes, rng)

        children: list[Point] = []
        for genes in _unseen(child, found, min(population, budget - len(found))):
            found[genes] = evaluate(genes)
            children.append(found[genes])
        if not children:
            break
        parents = _ranked([*parents, *children])[:population]
    return list(found.values())


def random_search(draw: Callable[[random.Random], Genes], evaluate: Evaluate, *, budget: int, seed: int) -> list[Point]:
    """Evaluates at most `budget` different encoders that `draw` draws; returns their points."""
    rng = random.Random(f"random {seed}")
    found: dict[Genes, Point] = {}
    for genes in _unseen(lambda: draw(rng), found, budget):
        found[genes] = evaluate(genes)
    return list(found.values())


def front(points: Sequence[Point]) -> list[Point]:
    """Returns the points that no other one dominates, the smallest encoder first."""
    best = non_dominated_fronts([point.objectives for point in points])[:1]
    return sorted((points[index] for indices in best for index in indices), key=lambda point: point.megabytes)


def dominates(one: Objectives, other: Objectives) -> bool:
    """Returns whether `one` is at least as good in every objective, and better in one."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def non_dominated_fronts(points: Sequence[Objectives]) -> list[list[int]]:
    """Returns the indices of the points by front. Points of a front are dominated only by those of earlier fronts."""
    fronts: list[list[int]] = []
    left = list(range(len(points)))
    while left:
        best = [index for index in left if not any(dominates(points[other], points[index]) for other in left)]
        fronts.append(best)
        left = [index for index in left if index not in best]
    return fronts


def crowding_distances(points: Sequence[Objectives]) -> list[float]:
    """Returns, for each point, the distance between its neighbours: the sum over the objectives, relative to the range.

    The best and the worst point of an objective have an infinite distance.
    """
    distances = [0.0] * len(points)
    for objective in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda index: points[index][objective])
        values = [points[index][objective] for index in order]
        for end in (order[0], order[-1]):
            distances[end] = math.inf
        extent = values[-1] - values[0]
        for place in range(1, len(order) - 1):
            gap = values[place + 1] - values[place - 1]
            distances[order[place]] += gap / extent if extent else 0.0
    return distances


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns Kendall's rank correlation tau-b in [-1, 1]; 0 if all values of a sequence are equal."""
    agreement = 0
    ties = [0, 0]
    pairs = list(combinations(zip(one, other, strict=True), 2))
    for (a, x), (b, y) in pairs:
        agreement += _sign(a - b) * _sign(x - y)
        ties[0] += a == b
        ties[1] += x == y
    scale = math.sqrt((len(pairs) - ties[0]) * (len(pairs) - ties[1]))
    return agreement / scale if scale else 0.0


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _ranked(points: Sequence[Point]) -> list[Point]:
    """Returns the points by front, and within a front the least crowded first."""
    ranked: list[Point] = []
    for indices in non_dominated_fronts([point.objectives for point in points]):
        distances = crowding_distances([points[index].objectives for index in indices])
        order = sorted(range(len(indices)), key=lambda place: -distances[place])
        ranked += [points[indices[place]] for place in order]
    return ranked


def _unseen(draw: Callable[[], Genes], seen: dict[Genes, Point], number: int) -> Iterator[Genes]:
    """Yields at most `number` genes that are not in `seen`, to which the caller adds them."""
    repeats = 0
    while number and repeats < MAX_REPEATS:
        genes = draw()
        if genes in seen:
            repeats += 1
            continue
        number -= 1
        yield genes
