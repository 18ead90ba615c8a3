"""Tests the finished prefix against a simple model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wire.bus.offsets import FinishedPrefix, Position

PARTITIONS = [("events.v1", 0), ("events.v1", 1)]
LIMIT = 5


def opened(limit: int = 100) -> FinishedPrefix:
    prefix = FinishedPrefix(limit=limit)
    prefix.open(PARTITIONS[0])
    return prefix


def test_nothing_finished_commits_where_it_began() -> None:
    prefix = opened()
    prefix.add(PARTITIONS[0], 7)
    assert prefix.prefix() == {PARTITIONS[0]: 7}


def test_a_slow_record_holds_back_those_behind_it() -> None:
    prefix = opened()
    slow, *others = [prefix.add(PARTITIONS[0], offset) for offset in range(4)]
    for position in others:
        prefix.finish(position)
    assert prefix.prefix() == {}  # 0: the start of the log
    prefix.finish(slow)
    assert prefix.prefix() == {PARTITIONS[0]: 4}


def test_gaps_in_the_offsets_are_passed() -> None:
    prefix = opened()
    first, second = (prefix.add(PARTITIONS[0], offset) for offset in (3, 9))
    prefix.finish(first)
    assert prefix.prefix() == {PARTITIONS[0]: 9}
    prefix.finish(second)
    assert prefix.prefix() == {PARTITIONS[0]: 10}


def test_a_partition_that_stays_keeps_what_is_in_flight() -> None:
    prefix = opened()
    position = prefix.add(PARTITIONS[0], 0)
    prefix.retain([PARTITIONS[0]])
    prefix.open(PARTITIONS[0])
    assert prefix.finish(position)


def test_a_partition_that_came_back_ignores_what_was_in_flight_before() -> None:
    prefix = opened()
    old = prefix.add(PARTITIONS[0], 0)
    prefix.retain([])
    assert not prefix.finish(old)
    prefix.open(PARTITIONS[0])
    new = prefix.add(PARTITIONS[0], 0)
    assert new.generation != old.generation
    assert not prefix.finish(old)
    assert prefix.prefix() == {}


def test_a_log_made_anew_begins_a_generation() -> None:
    prefix = opened()
    old = prefix.add(PARTITIONS[0], 50)
    prefix.add(PARTITIONS[0], 2)
    assert not prefix.finish(old)
    assert prefix.prefix() == {PARTITIONS[0]: 2}


def test_the_bound_is_kept() -> None:
    prefix = opened(limit=2)
    first = prefix.add(PARTITIONS[0], 0)
    prefix.add(PARTITIONS[0], 1)
    with pytest.raises(ValueError, match="2 records wait"):
        prefix.add(PARTITIONS[0], 2)
    prefix.finish(first)
    assert prefix.room(PARTITIONS[0]) == 1


class Model(RuleBasedStateMachine):
    """Delivers and finishes records, loses and regains partitions, in any order; the model has all records."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix = FinishedPrefix(limit=LIMIT)
        self.delivered: dict[tuple[str, int], list[tuple[Position, bool]]] = {}
        self.every: list[Position] = []

    @rule(partition=st.sampled_from(PARTITIONS))
    def open(self, partition: tuple[str, int]) -> None:
        self.prefix.open(partition)
        self.delivered.setdefault(partition, [])

    @rule(retained=st.sets(st.sampled_from(PARTITIONS)))
    def retain(self, retained: set[tuple[str, int]]) -> None:
        self.prefix.retain(retained)
        self.delivered = {partition: self.delivered[partition] for partition in self.delivered if partition in retained}

    @precondition(lambda self: self.delivered)
    @rule(data=st.data(), gap=st.integers(1, 3))
    def add(self, data: st.DataObject, gap: int) -> None:
        partition = data.draw(st.sampled_from(sorted(self.delivered)))
        records = self.delivered[partition]
        offset = records[-1][0].offset + gap if records else gap - 1
        if len(self.waiting(partition)) >= LIMIT:
            with pytest.raises(ValueError, match="records wait already"):
                self.prefix.add(partition, offset)
            return
        position = self.prefix.add(partition, offset)
        records.append((position, False))
        self.every.append(position)

    @precondition(lambda self: self.every)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        position = data.draw(st.sampled_from(self.every))
        records = self.delivered.get((position.topic, position.partition), [])
        is_open = (position, False) in records
        assert self.prefix.finish(position) == is_open
        if is_open:
            records[records.index((position, False))] = (position, True)

    def waiting(self, partition: tuple[str, int]) -> list[tuple[Position, bool]]:
        records = self.delivered[partition]
        first = next((index for index, (_, is_finished) in enumerate(records) if not is_finished), len(records))
        return records[first:]

    @invariant()
    def is_the_first_unfinished_or_behind_the_last(self) -> None:
        expected = {}
        for partition, records in self.delivered.items():
            waiting = self.waiting(partition)
            end = 0
            if waiting:
                end = waiting[0][0].offset
            elif records:
                end = records[-1][0].offset + 1
            if end:
                expected[partition] = end
            assert self.prefix.room(partition) == LIMIT - len(waiting)
        assert self.prefix.prefix() == expected


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=200, stateful_step_count=40)


@given(st.lists(st.sampled_from(["finished", "done", "open"]), max_size=12))
def test_what_is_done_is_taken_up_to_the_first_that_is_not(states: list[str]) -> None:
    """So far a transaction may commit; afterwards the prefix is that far."""
    prefix = opened()
    positions = [prefix.add(PARTITIONS[0], offset) for offset in range(len(states))]
    for position, state in zip(positions, states, strict=True):
        if state == "finished":
            prefix.finish(position)
    done = {position for position, state in zip(positions, states, strict=True) if state == "done"}
    ends, taken = prefix.prefix_with(done.__contains__)
    end = states.index("open") if "open" in states else len(states)
    assert ends.get(PARTITIONS[0], 0) == end
    assert taken == [position for position in positions[:end] if position in done]
    for position in taken:
        prefix.finish(position)
    assert prefix.prefix().get(PARTITIONS[0], 0) == end


def test_a_position_counts_until_its_partition_is_lost() -> None:
    prefix = opened()
    position = prefix.add(PARTITIONS[0], 3)
    assert prefix.is_current(position)
    prefix.retain(())
    prefix.open(PARTITIONS[0])
    assert not prefix.is_current(position)
