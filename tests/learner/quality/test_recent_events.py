"""What a candidate names differently from the reference is counted on the events that came last."""

import pytest

from learner.fast.fast_head import Rows
from learner.quality.comparison import Anchor, EncoderTrial, Paired
from learner.quality.evaluation import ScoredVersion
from learner.quality.recent_events import NO_SAMPLES, RecentEvents, Reference
from lifelong.plugins.inputs.feature_tensors import Scale
from tests.learner.quality.versions import SERVED, events_with, ring_beside, version
from tests.learner.small_learner import small_served, small_strata, with_scales
from wire.records import NameChanges, NewClass

OLD = version(a=0, b=1)
WITH_C = version(a=0, b=1, c=2)


def events(*places: int, labels: str) -> Rows:
    return events_with([[place] for place in places], labels.split())


def recent(reference: ScoredVersion = OLD) -> RecentEvents:
    return ring_beside(reference)


def test_names_of_old_classes_and_of_new_ones_are_told_apart() -> None:
    ring = recent()
    ring.add(events(0, 1, 1, 2, 2, labels="a b b c c"), SERVED, OLD)
    assert ring.name_changes(WITH_C) == NameChanges(
        reference=7, texts=5, to_new=2, ties=5, labels=5, new_classes=(NewClass(label="c", texts=2, labels=2),)
    )


def test_the_rows_of_classes_may_lie_in_another_order() -> None:
    ring = recent()
    ring.add(events(0, 1, 1, labels="a b b"), SERVED, OLD)
    assert ring.name_changes(version(b=1, a=0)).between_old == 0
    assert ring.name_changes(version(b=0, a=1)).between_old == 3


def test_the_line_is_judged_on_events_before_they_are_learnt() -> None:
    ring = recent()
    ring.add(events(2, 2, labels="c c"), SERVED, OLD)  # the newest version does not know the class
    before = ring.name_changes(WITH_C)
    assert (before.wins, before.ties, before.losses) == (0, 2, 0)
    ring.add(events(2, 2, 2, 0, labels="c c d a"), SERVED, WITH_C)
    found = ring.name_changes(WITH_C)
    assert (found.wins, found.ties, found.losses) == (2, 4, 0)
    mixed = events(2, labels="a")
    mixed.phi_BR[0, 0] = 0.5  # the reference, which lacks the class, is right
    ring.add(mixed, SERVED, WITH_C)
    assert ring.name_changes(WITH_C).losses == 1


def test_what_the_reference_names_rightly_and_the_version_does_not_is_forgotten() -> None:
    ring = recent()
    ring.add(events(0, 1, 1, 2, labels="a b c c"), SERVED, OLD)
    assert ring.name_changes(version(a=0, b=1, c=2)).forgotten == 0
    found = ring.name_changes(version(a=1, b=0, c=2))
    assert (found.forgotten, found.between_old) == (2, 3)
    ring.refer_to(Reference(8, WITH_C))
    assert ring.name_changes(OLD).forgotten == 1


def test_what_the_version_before_names_rightly_and_the_next_does_not_is_lost() -> None:
    ring = recent()
    ring.add(events(0, 1, 2, labels="a b c"), SERVED, OLD)
    assert ring.name_changes(WITH_C).lost == 0
    ring.add(events(2, 0, labels="c a"), SERVED, WITH_C)
    assert ring.name_changes(version(a=1, b=0, c=2)).lost == 3
    assert ring.name_changes(OLD).lost == 2, "the one before was not published"
    ring.add(events(0, labels="a"), SERVED, version(a=0))
    assert ring.name_changes(version(a=1, b=0)).lost == 1, "only what it was seen to name is known of another version"


def test_another_reference_counts_from_its_beginning() -> None:
    ring = recent()
    ring.add(events(2, 0, labels="c a"), SERVED, WITH_C)
    assert ring.name_changes(WITH_C).wins == 1
    ring.refer_to(Reference(9, WITH_C))
    assert ring.name_changes(WITH_C) == NameChanges(reference=9, texts=2, labels=2)
    ring.refer_to(None)
    assert ring.name_changes(WITH_C) == NameChanges()


def test_events_under_another_encoder_are_forgotten() -> None:
    ring = recent()
    ring.add(events(0, 1, labels="a b"), SERVED, OLD)
    ring.add(events(1, labels="b"), small_served(small_strata(8)), OLD)
    assert len(ring) == 1 and ring.name_changes(WITH_C) == NameChanges()


def test_the_line_goes_on_under_other_scales_of_numbers() -> None:
    ring = recent()
    ring.add(events(2, 2, labels="c c"), SERVED, WITH_C)
    scaled = with_scales(SERVED, {"amount": Scale(0.0, 1.0)})
    newest = WITH_C._replace(served=scaled)
    ring.refer_to(Reference(7, OLD))  # as it was read again
    ring.add(events(2, 0, labels="c a"), scaled, WITH_C)
    found = ring.name_changes(newest)
    assert (found.reference, found.texts, found.wins, found.ties, found.losses) == (7, 4, 3, 1, 0)
    assert ring.name_changes(WITH_C) == NameChanges(), "a version is measured under the scales of the events"
    ring.refer_to(Reference(8, newest))
    assert ring.name_changes(newest) == NameChanges(reference=8, texts=4, labels=4)


def test_what_is_forgotten_is_not_counted() -> None:
    ring = recent()
    ring.add(events(0, 1, labels="a b"), SERVED, OLD)
    ring.forget()
    assert not len(ring) and ring.name_changes(WITH_C) == NameChanges()


def test_a_reference_without_classes_names_nothing() -> None:
    ring = recent(version())
    ring.add(events(0, 1, labels="a b"), SERVED, version())
    found = ring.name_changes(OLD)
    assert (found.between_old, found.to_new, len(found.new_classes)) == (0, 2, 2)


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        pytest.param([1, 2, 5], [3, 4], NameChanges(reference=7, held_wins=1, held_ties=2, held_losses=1), id="both"),
        pytest.param(
            [1, 2, 3, 5], [6, 7, 8, 10, 11], NameChanges(), id="the reference knows less than half of the samples"
        ),
        pytest.param([], [], NameChanges(), id="no samples"),
    ],
)
def test_a_version_with_another_encoder_is_compared_on_the_holdout_alone(
    right: list[int], wrong: list[int], found: NameChanges
) -> None:
    ring = recent()
    ring.add(events(0, 1, labels="a b"), SERVED, OLD)
    ring.refer_to(Reference(7, None, "E", Anchor(version=7, right=[1, 2, 3], wrong=[5, 9])))
    assert ring.name_changes(WITH_C, Anchor(right=right, wrong=wrong)) == found
    ring.add(events(2, labels="c"), SERVED, WITH_C)  # does not count: the reference cannot name it
    assert ring.name_changes(WITH_C, Anchor(right=right, wrong=wrong)) == found


@pytest.mark.parametrize(
    ("before", "trial"),
    [
        pytest.param("E", NameChanges(reference=7, trial_wins=5, trial_ties=20, trial_losses=1), id="of the reference"),
        pytest.param("F", NameChanges(), id="beside another encoder"),
    ],
)
def test_the_trial_of_an_encoder_counts_if_it_was_beside_that_of_the_reference(before: str, trial: NameChanges) -> None:
    ring = recent()
    ring.refer_to(Reference(7, None, "E"))
    tried = EncoderTrial(before, Paired(num=26, right=18, lost=1, won=5))
    assert ring.name_changes(WITH_C, NO_SAMPLES, tried) == trial
    ring.refer_to(Reference(8, WITH_C))
    assert not ring.name_changes(WITH_C, NO_SAMPLES, tried).trial_wins, "the encoder is the same"
