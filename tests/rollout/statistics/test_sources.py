"""A source counts with k labels at most, chosen by hash, and with its mean once."""

import itertools
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.statistics.paired import PairedTally, log_e_above
from rollout.statistics.sources import SourceSample, log_e_of_means

LABELS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 1_000), st.sampled_from([1, 0, -1])),
    unique_by=lambda label: label[:2],
)


def sampled(labels: list[tuple[str, int, int]], labels_per_source: int = 4) -> SourceSample:
    sample = SourceSample(labels_per_source)
    for source, event_hash, difference in labels:
        sample.add(source, event_hash, difference)
    return sample


def test_the_labels_with_the_smallest_hashes_count() -> None:
    flood = [("flood", number, -1) for number in range(100, 1_000)]
    sample = sampled([*flood, ("honest", 5, 1), ("flood", 1, 0), ("honest", 900, 0)])
    assert sample.tally() == PairedTally(wins=1, ties=2, losses=3)
    assert sorted(sample.means()) == [-0.75, 0.5]


def test_a_corrected_label_replaces_the_first() -> None:
    sample = sampled([("a", 1, -1), ("a", 2, 0), ("a", 1, 1)])
    assert sample.tally() == PairedTally(wins=1, ties=1)


@given(LABELS, st.integers(0, 9))
def test_the_order_of_the_labels_changes_nothing(labels: list[tuple[str, int, int]], seed: int) -> None:
    shuffled = Random(seed).sample(labels, len(labels))
    assert sampled(shuffled).tally() == sampled(labels).tally()
    assert sorted(sampled(shuffled).means()) == sorted(sampled(labels).means())


def test_one_label_a_source_is_the_paired_test() -> None:
    tally = PairedTally(wins=5, ties=3, losses=2)
    means = [1.0] * 5 + [0.0] * 3 + [-1.0] * 2
    assert log_e_of_means(means, -0.02) == pytest.approx(log_e_above(tally, -0.02))


def test_over_all_means_of_two_labels_the_mean_e_value_is_1() -> None:
    """Each of three sources has two labels, each a win or a loss with a chance of a half."""
    total = 0.0
    for means in itertools.product([1.0, 0.0, 0.0, -1.0], repeat=3):
        total += math.exp(log_e_of_means(means, 0.0)) / 4**3
    assert total == pytest.approx(1.0, abs=1e-12)


@given(st.lists(st.floats(-1, 1), max_size=30), st.floats(-1, 1))
def test_one_source_at_most_doubles_it(means: list[float], more: float) -> None:
    growth = log_e_of_means([*means, more], -0.02) - log_e_of_means(means, -0.02)
    assert math.log(0.099) <= growth <= math.log(2.0)
