"""Two versions compared by labels: no group of sources decides alone, and all of it survives a restart."""

from typing import TypeVar

import msgspec
import pytest

from rollout.comparison import (
    MAX_WAITING,
    NUM_CLASS_GROUPS,
    NUM_GROUPS,
    NUM_OWN_GROUPS,
    Difference,
    PairCount,
    PairCountState,
    PairDetector,
    PairDetectorState,
    SourceGroups,
)
from rollout.statistics import PairedTally
from wire.records import Record

R = TypeVar("R", bound=Record)


def stored(state: R) -> R:
    """Returns the state as a later program reads it."""
    return msgspec.json.decode(msgspec.json.encode(state), type=type(state))


def test_the_first_sources_have_groups_of_their_own_and_all_have_one() -> None:
    groups = SourceGroups()
    first = [groups.group(f"source-{number}") for number in range(NUM_OWN_GROUPS)]
    assert first == list(range(NUM_OWN_GROUPS))
    later = [groups.group(f"later-{number}") for number in range(500)]
    assert set(later) == set(range(NUM_OWN_GROUPS, NUM_GROUPS))
    again = SourceGroups(groups.export())
    assert [again.group(name) for name in ("source-3", "later-7")] == [3, later[7]]


def difference(value: int, *, name: int = 5, group: int = 0, answer_ms: int = 0, number: int = 1) -> Difference:
    return Difference(value, name, group, answer_ms, number)


def test_labels_count_at_once_and_as_settled_when_their_second_is_over() -> None:
    count = PairCount()
    for value, answer_ms in ((1, 500), (0, 999), (-1, 1_000)):
        count.add(difference(value, answer_ms=answer_ms))
    assert count.comparison().labels == PairedTally(1, 1, 1)
    count.settle_events(before_ms=1_999)
    assert count.comparison().settled == PairedTally(1, 1, 0)
    count = PairCount(stored(count.export()))
    count.settle_events(before_ms=2_000)
    assert count.comparison().settled == PairedTally(1, 1, 1)


@pytest.mark.parametrize("before_ms", [0, 5_000])
def test_a_label_is_taken_out_of_all_that_it_was_counted_in(before_ms: int) -> None:
    count = PairCount()
    count.add(difference(1, answer_ms=500))
    before = count.export()
    wrong = difference(-1, name=6, group=3, answer_ms=1_500)
    count.add(wrong)
    count.settle_events(before_ms)
    count = PairCount(stored(count.export()))
    count.remove(wrong)
    expected = PairCount(before)
    expected.settle_events(before_ms)
    assert count.export() == expected.export()
    assert len(count.comparison().sources) == 1, "a source without labels is none"


def test_a_label_from_before_the_count_began_is_not_taken_out() -> None:
    count = PairCount(PairCountState(since=5))
    count.remove(difference(1, number=4))
    assert count.export() == PairCountState(since=5)


def test_what_waits_to_be_settled_is_bounded_and_none_of_it_is_lost() -> None:
    count = PairCount()
    labels = [difference(1, answer_ms=1_000 * second) for second in range(2 * MAX_WAITING)]
    for label in labels:
        count.add(label)
    assert len(count.export().waiting) == MAX_WAITING
    count.remove(labels[0])
    count.settle_events(before_ms=10**9)
    assert count.comparison().settled == count.labels == PairedTally(wins=2 * MAX_WAITING - 1)


def test_classes_are_counted_in_groups() -> None:
    count = PairCount()
    for name in (3, NUM_CLASS_GROUPS + 3, 4):
        count.add(difference(-1, name=name))
    assert PairCount(stored(count.export())).class_groups == (PairedTally(losses=2), PairedTally(losses=1))


def test_sources_are_told_apart() -> None:
    count = PairCount()
    for group in (4, 4, 9):
        count.add(difference(-1, group=group))
    assert count.comparison().leave_one_out == (PairedTally(losses=1), PairedTally(losses=2))
    assert PairCount(PairCountState(groups=((4, PairedTally(1, 2, 3)),))).comparison().leave_one_out == (
        PairedTally(1, 2, 3),
    )


def watched(watch: PairDetector, differences: list[int], group: int) -> PairDetector:
    for difference in differences:
        watch.add(difference, group=group)
    return watch


def test_a_version_that_turned_bad_raises_the_alarm() -> None:
    good = watched(PairDetector(), [0, 1] * 100, group=0)
    assert not good.is_alarm
    assert watched(PairDetector(stored(good.export())), [-1] * 60, group=0).is_alarm


@pytest.mark.parametrize("is_flood_first", [False, True])
def test_a_flood_of_one_source_raises_no_alarm_while_others_label(is_flood_first: bool) -> None:
    watch = PairDetector()
    for group in (1, 0) if is_flood_first else (0, 1):
        watched(watch, [-1] * 200 if group else [0, 0, 1, -1] * 5, group)
    assert not watch.is_alarm
    assert watched(watch, [-1] * 60, group=2).is_alarm, "two sources say the same"


def test_an_empty_watch_is_that_of_no_record() -> None:
    assert PairDetector().export() == PairDetectorState()
    assert PairCount().export() == PairCountState()
