"""When a class is believed to mean something else."""

import random
from collections.abc import Iterator

import msgspec
import pytest
import torch

from learner.drift import ConceptChanges, ConceptChangesState, Observation, observations
from learner.fast.rows import Nearest
from lifelong.plugins.kinds.sets import join_names
from tests.learner.streams import sample

SOURCES = ("one", "two", "three", "four")


def swapped(number: int, *, source: str, is_approved: bool = False) -> Observation:
    """A text that was of `a` is of `b`, or the other way round, and the newest labels know."""
    label, by_all = ("b", "a") if number % 2 else ("a", "b")
    return Observation(label, by_all, label, 1_000 + number, source, is_approved)


def found(it: ConceptChanges) -> dict[str, int]:
    return {change.label: change.since_ms for change in it.detected({})}


def trials_until_found(it: ConceptChanges, sources: tuple[str, ...], *, is_approved: bool = False) -> int:
    """Returns how many labels of a changed class it takes; 0 where 200 are not enough."""
    for number in range(200):
        it.add([swapped(number, source=sources[number % len(sources)], is_approved=is_approved)])
        if it.detected({}):
            return number + 1
    return 0


def stable(num: int, *, seed: int, won: float) -> Iterator[Observation]:
    """Labels of 20 stable classes: on 12 of 100 exactly one is right, and that is the newest in a share `won`."""
    rng = random.Random(seed)
    for number in range(num):
        label, other = rng.sample("abcdefghijklmnopqrst", 2)
        by_all = by_newest = label
        if rng.random() < 0.12:
            by_all, by_newest = (other, label) if rng.random() < won else (label, other)
        yield Observation(label, by_all, by_newest, number, rng.choice(SOURCES))


def test_a_change_is_found_for_both_classes_when_sources_agree() -> None:
    it = ConceptChanges(3)
    assert 7 <= trials_until_found(it, SOURCES) <= 12
    assert found(it) == {"a": 1_000, "b": 1_000}


@pytest.mark.parametrize("sources", [("one",), ("one", "two")])
def test_what_fewer_sources_claim_is_not_believed(sources: tuple[str, ...]) -> None:
    assert trials_until_found(ConceptChanges(3), sources) == 0


def test_a_single_source_is_enough_where_that_is_set() -> None:
    assert trials_until_found(ConceptChanges(1), ("one",)) == 7


def test_a_few_mistakes_of_others_do_not_confirm_a_flood() -> None:
    it = ConceptChanges(3)
    it.add([swapped(0, source="two"), swapped(1, source="three")])
    assert trials_until_found(it, ("one",)) == 0


def test_an_approved_label_counts_in_full() -> None:
    assert trials_until_found(ConceptChanges(3), ("one",), is_approved=True) == 7


def test_a_change_is_dated_to_the_first_label_that_was_named_wrongly() -> None:
    it = ConceptChanges(1)
    it.add([Observation("b", "b", "b", 100)])
    it.add([Observation("b", "a", "a", time_ms) for time_ms in (200, 300)])
    trials_until_found(it, ("one",))
    assert found(it) == {"a": 200, "b": 200}


@pytest.mark.parametrize("seed", range(5))
def test_stable_classes_do_not_change(seed: int) -> None:
    it = ConceptChanges(3)
    it.add(stable(20_000, seed=seed, won=0.3))
    assert it.detected({}) == []


def test_a_class_that_was_stable_for_long_changes_as_fast() -> None:
    it = ConceptChanges(3)
    it.add(stable(20_000, seed=0, won=0.3))
    assert 7 <= trials_until_found(it, SOURCES) <= 16


def test_a_change_that_is_followed_ends_the_evidence_and_outdates_earlier_labels() -> None:
    it = ConceptChanges(1)
    trials_until_found(it, ("one",))
    (first, second) = it.detected({"feedback.v1/0": 9})
    assert first.offsets == {"feedback.v1/0": 9}
    it.follow(first)
    assert it.detected({}) == [second._replace(offsets={})]
    assert it.is_outdated("a", 999) and not it.is_outdated("a", 1_000) and not it.is_outdated("b", 999)
    it.forget("a")
    assert not it.is_outdated("a", 999)


def test_a_class_without_labels_of_its_own_does_not_change() -> None:
    """A new class is near it, and comes when the old one is not labelled any more."""
    it = ConceptChanges(1)
    it.add(Observation("new", "old", "new", number) for number in range(50))
    assert found(it) == {"new": 0}


def test_a_win_of_long_ago_dates_no_change() -> None:
    it = ConceptChanges(1)
    it.add([Observation("b", "a", "b", 100)])
    it.add(Observation(label, label, label, 200) for label in "ab" * 20)
    trials_until_found(it, ("one",))
    assert found(it) == {"a": 1_000, "b": 1_000}


def test_it_survives_a_restart() -> None:
    it = ConceptChanges(3)
    it.add(stable(500, seed=1, won=0.5))
    it.add(swapped(number, source=SOURCES[number % 4]) for number in range(5))
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(it.export()), type=ConceptChangesState)
    again = ConceptChanges(3, state)
    assert again.export() == it.export()
    assert trials_until_found(again, SOURCES) == trials_until_found(it, SOURCES)


def test_what_is_held_is_bounded() -> None:
    it = ConceptChanges(3)
    it.add(swapped(0, source=f"source {number}") for number in range(1_000))
    assert max(len(each.by_source) for each in it.export().evidence.values()) <= 17


def test_a_label_that_the_head_names_rightly_is_right_by_all_labels() -> None:
    nearest = Nearest(["no"] * 4, ["yes"] * 4, torch.zeros(4))
    samples = [
        sample(is_correct=True),
        sample(is_correct=True),
        None,
        sample(is_correct=True, label=join_names(["yes"])),
    ]
    named, other = observations(samples, nearest, [True, False, True, True])
    assert (named.by_all, other.by_all) == ("yes", "no") and named.by_newest == other.by_newest == "yes"
