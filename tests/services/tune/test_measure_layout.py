"""Tests which layouts are measured, and which one wins."""

from hypothesis import given
from hypothesis import strategies as st

from services.tune.measure import WORTH, Layout, MeasuredLayout, best, layouts

tables = st.lists(
    st.builds(
        lambda replicas, threads, rates: MeasuredLayout(Layout(replicas, threads), dict(enumerate(rates))),
        st.integers(1, 4),
        st.integers(1, 4),
        st.lists(st.floats(1, 1e4), min_size=3, max_size=3),
    ),
    min_size=1,
)


def measured(replicas: int, threads: int, rate: float) -> MeasuredLayout:
    return MeasuredLayout(Layout(replicas, threads), {1: rate, 64: 2 * rate})


@given(st.integers(1, 256), st.integers(1, 64))
def test_no_layout_has_more_threads_than_cores_or_more_replicas_than_allowed(cores: int, most: int) -> None:
    candidates = layouts(cores, max_replicas=most)
    assert candidates[0] == Layout(1, 1)
    assert len(set(candidates)) == len(candidates)
    assert all(each.replicas * each.threads <= cores and each.replicas <= most for each in candidates)
    assert {Layout(1, cores), Layout(min(cores, most), 1)} <= set(candidates)


@given(tables)
def test_no_layout_is_much_better_than_the_winner(table: list[MeasuredLayout]) -> None:
    winner = best(table)
    assert winner in table
    assert winner.score >= WORTH * max(each.score for each in table)


@given(tables, st.integers(1, 4))
def test_what_is_given_stays(table: list[MeasuredLayout], replicas: int) -> None:
    winner = best(table, replicas=replicas)
    if winner is None:
        assert replicas not in {each.layout.replicas for each in table}
    else:
        assert winner.layout.replicas == replicas


def test_a_replica_more_must_be_worth_its_memory() -> None:
    few = measured(1, 2, 100)
    many = measured(2, 1, 104)
    assert best([many, few]) == few
    assert best([few, measured(2, 1, 106)]) == measured(2, 1, 106)


def test_an_empty_table_has_no_winner() -> None:
    assert best([]) is None
