"""Tests of the lineage of slow rounds, and of its gap."""

import msgspec

from learner.state.lineage import MAX_ROUNDS, add_round, end_round, record_gap, set_memory_offsets
from wire.records import PSEUDO_LABELS, Lineage, Round

NONE = Lineage()


def test_a_round_begins_reads_the_memory_and_ends() -> None:
    first = add_round(NONE, number=1, kind="labels", offsets={"a/0": 3})
    first = end_round(set_memory_offsets(first, {"a/0": 5}), is_adopted=True)
    both = end_round(add_round(first, number=2, kind=PSEUDO_LABELS, offsets={"a/0": 9}), is_adopted=False)
    assert both == Lineage(
        rounds=(
            Round(number=1, kind="labels", offsets={"a/0": 3}, memory_offsets={"a/0": 5}, outcome="adopted"),
            Round(number=2, kind=PSEUDO_LABELS, offsets={"a/0": 9}, outcome="dropped"),
        )
    )


def test_a_round_that_an_older_program_began_is_not_in_it() -> None:
    assert end_round(NONE, is_adopted=True) == set_memory_offsets(NONE, {"a/0": 5}) == NONE


def test_a_round_says_how_deep_it_trained_unless_it_trained_all_that_may_be() -> None:
    lineage = add_round(NONE, number=1, kind="labels", offsets={})
    lineage = add_round(lineage, number=2, kind="labels", offsets={}, layers=1)
    assert [each.layers for each in lineage.rounds] == [msgspec.UNSET, 1]


def test_offsets_are_copied() -> None:
    offsets = {"a/0": 3}
    lineage = set_memory_offsets(add_round(NONE, number=1, kind="labels", offsets=offsets), offsets)
    offsets["a/0"] = 4
    assert lineage.rounds[0].offsets == lineage.rounds[0].memory_offsets == {"a/0": 3}


def test_a_gap_stays() -> None:
    lineage = record_gap(NONE, "somebody was erased")
    for number in range(3):
        lineage = end_round(add_round(lineage, number=number, kind="rehearsal", offsets={}), is_adopted=True)
    assert lineage.gap == "somebody was erased" and len(lineage.rounds) == 3


def test_the_oldest_round_beyond_the_bound_goes_and_leaves_a_gap() -> None:
    lineage = NONE
    for number in range(MAX_ROUNDS):
        lineage = add_round(lineage, number=number, kind="labels", offsets={})
    assert not lineage.gap
    lineage = add_round(lineage, number=MAX_ROUNDS, kind="labels", offsets={})
    assert [lineage.rounds[0].number, lineage.rounds[-1].number] == [1, MAX_ROUNDS]
    assert lineage.gap == f"it took more than {MAX_ROUNDS} rounds"


def test_the_rounds_of_a_lineage_are_bounded() -> None:
    lineage = Lineage()
    for number in range(MAX_ROUNDS + 1):
        assert not lineage.gap
        lineage = add_round(lineage, number=number, kind="labels", offsets={"feedback.v1/0": number})
        lineage = end_round(lineage, is_adopted=True)
    assert len(lineage.rounds) == MAX_ROUNDS
    assert f"more than {MAX_ROUNDS} rounds" in lineage.gap
    assert record_gap(lineage, "lost").rounds == lineage.rounds
