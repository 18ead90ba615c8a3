"""NSGA-II: its fronts, its distances, its determinism; and Kendall's tau."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.compress.search import (
    Point,
    crowding_distances,
    dominates,
    front,
    kendall_tau,
    non_dominated_fronts,
    nsga2,
    random_search,
)
from lifelong.compress.space import Genes, Space
from model.config import MINILM_L6

SPACE = Space(dense=MINILM_L6, stored=0.5)

POINTS = st.lists(st.tuples(*[st.integers(0, 5).map(float)] * 3), max_size=20)

VALUES = st.lists(st.integers(0, 9).map(float), min_size=2, max_size=15)


@given(POINTS)
def test_fronts_are_a_partition_in_the_order_of_dominance(points: list[tuple[float, ...]]) -> None:
    fronts = non_dominated_fronts(points)
    assert sorted(index for indices in fronts for index in indices) == list(range(len(points)))
    for rank, indices in enumerate(fronts):
        for index in indices:
            assert not any(dominates(points[other], points[index]) for other in indices)
            if rank:
                assert any(dominates(points[other], points[index]) for other in fronts[rank - 1])


@given(POINTS)
def test_the_ends_of_every_objective_are_never_crowded(points: list[tuple[float, ...]]) -> None:
    distances = crowding_distances(points)
    assert len(distances) == len(points)
    assert all(distance >= 0 for distance in distances)
    for values in zip(*points, strict=True):
        for end in (min(values), max(values)):
            assert math.inf in [distances[index] for index, value in enumerate(values) if value == end]


def test_crowding_is_the_gap_between_neighbours() -> None:
    points = [(0.0, 4.0), (1.0, 3.0), (3.0, 1.0), (4.0, 0.0)]
    assert crowding_distances(points) == [math.inf, 1.5, 1.5, math.inf]
    assert crowding_distances([]) == []


def test_dominance() -> None:
    assert dominates((1, 1), (1, 2))
    assert not dominates((1, 1), (1, 1))
    assert not dominates((0, 2), (1, 1))


@given(VALUES, st.randoms(use_true_random=False))
def test_tau_is_1_for_an_order_and_changes_its_sign_with_it(values: list[float], rng: random.Random) -> None:
    other = rng.sample(values, len(values))
    tau = kendall_tau(values, other)
    assert -1 - 1e-9 <= tau <= 1 + 1e-9
    assert kendall_tau(other, values) == pytest.approx(tau)
    assert kendall_tau(values, [-value for value in other]) == pytest.approx(-tau)
    assert kendall_tau(values, values) == pytest.approx(1.0 if len({*values}) > 1 else 0.0)


def test_tau_of_a_known_order() -> None:
    # scipy.stats.kendalltau has the same values for these two.
    assert kendall_tau([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]) == pytest.approx(-0.47140452)
    assert kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)


class Landscape:
    """Scores encoders by how much they store outside of attention: a search has to find many feed-forward banks."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, genes: Genes) -> Point:
        self.calls += 1
        score = len({*genes.ffn}) / 6 - len({*genes.attention}) / 60
        return Point(genes=genes, score=score, share=SPACE.share(genes), megabytes=SPACE.megabytes(genes), ms=1.0)


def best(points: Sequence[Point]) -> float:
    return max(point.score for point in points)


def test_a_search_evaluates_its_budget_of_different_encoders() -> None:
    evaluate = Landscape()
    points = nsga2(SPACE, evaluate, budget=70, seed=1, population=10)
    assert len(points) == len({point.genes for point in points}) == evaluate.calls == 70


def test_evolution_beats_chance_on_average() -> None:
    seeds = range(5)
    evolved = [best(nsga2(SPACE, Landscape(), budget=80, seed=seed)) for seed in seeds]
    drawn = [best(random_search(SPACE.draw, Landscape(), budget=80, seed=seed)) for seed in seeds]
    assert sum(evolved) > sum(drawn)


def test_a_search_repeats_itself_and_a_longer_one_begins_with_it() -> None:
    whole = nsga2(SPACE, Landscape(), budget=60, seed=2)
    assert nsga2(SPACE, Landscape(), budget=60, seed=2) == whole
    assert nsga2(SPACE, Landscape(), budget=40, seed=2) == whole[:40]
    assert nsga2(SPACE, Landscape(), budget=60, seed=3) != whole


def test_the_front_has_no_dominated_point_and_begins_with_the_smallest() -> None:
    points = random_search(SPACE.draw, Landscape(), budget=40, seed=0)
    found = front(points)
    assert [point.megabytes for point in found] == sorted(point.megabytes for point in found)
    assert not any(dominates(other.objectives, point.objectives) for other in points for point in found)


def test_a_small_space_ends_before_the_budget() -> None:
    only = [SPACE.smallest, SPACE.largest]
    points = random_search(lambda rng: rng.choice(only), Landscape(), budget=10, seed=0)
    assert {point.genes for point in points} == {*only}
