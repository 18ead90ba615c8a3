"""The different predictions of a candidate and the reference are counted on the last events."""

import pytest

from learner.fast.fast_head import Rows
from learner.quality.comparison import Anchor, EncoderTrial, Paired
from learner.quality.evaluation import ScoredVersion
from learner.quality.recent_events import NO_SAMPLES, RecentEvents, Reference
from lifelong.plugins.inputs.feature_tensors import Scale
from tests.learner.quality.versions import SERVED, events_with, ring_with, version
from tests.learner.small_learner import small_served, small_strata, with_scales
from wire.records import NameChanges, NewClass

OLD = version(a=0, b=1)
WITH_C = version(a=0, b=1, c=2)


def events(*places: int, labels: str) -> Rows:
    return events_with([[place] for place in places], labels.split())


def recent(reference: ScoredVersion = OLD) -> RecentEvents:
    return ring_with(reference)


def test_changes_to_old_and_to_new_classes_are_counted_separately() -> None:
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
    # The newest version does not know the class.
    ring.add(events(2, 2, labels="c c"), SERVED, OLD)
    before = ring.name_changes(WITH_C)
    assert (before.wins, before.ties, before.losses) == (0, 2, 0)
    ring.add(events(2, 2, 2, 0, labels="c c d a"), SERVED, WITH_C)
    found = ring.name_changes(WITH_C)
    assert (found.wins, found.ties, found.losses) == (2, 4, 0)
    mixed = events(2, labels="a")
    # The reference, which lacks class c, is right.
    mixed.phi_BR[0, 0] = 0.5
    ring.add(mixed, SERVED, WITH_C)
    assert ring.name_changes(WITH_C).losses == 1


def test_a_right_prediction_of_the_reference_that_the_version_lacks_is_forgotten() -> None:
    ring = recent()
    ring.add(events(0, 1, 1, 2, labels="a b c c"), SERVED, OLD)
    assert ring.name_changes(version(a=0, b=1, c=2)).forgotten == 0
    found = ring.name_changes(version(a=1, b=0, c=2))
    assert (found.forgotten, found.between_old) == (2, 3)
    ring.refer_to(Reference(8, WITH_C))
    assert ring.name_changes(OLD).forgotten == 1


def test_a_right_prediction_of_the_last_version_that_the_next_lacks_is_lost() -> None:
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
    # The same reference, read from the store again.
    ring.refer_to(Reference(7, OLD))
    ring.add(events(2, 0, labels="c a"), scaled, WITH_C)
    found = ring.name_changes(newest)
    assert (found.reference, found.texts, found.wins, found.ties, found.losses) == (7, 4, 3, 1, 0)
    assert ring.name_changes(WITH_C) == NameChanges(), "a version is measured under the scales of the events"
    ring.refer_to(Reference(8, newest))
    assert ring.name_changes(newest) == NameChanges(reference=8, texts=4, labels=4)


def test_forgotten_events_are_not_counted() -> None:
    ring = recent()
    ring.add(events(0, 1, labels="a b"), SERVED, OLD)
    ring.forget()
    assert not len(ring) and ring.name_changes(WITH_C) == NameChanges()


def test_a_reference_without_classes_predicts_nothing() -> None:
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
    # This event does not count: the reference does not know its class.
    ring.add(events(2, labels="c"), SERVED, WITH_C)
    assert ring.name_changes(WITH_C, Anchor(right=right, wrong=wrong)) == found


@pytest.mark.parametrize(
    ("before", "trial"),
    [
        pytest.param("E", NameChanges(reference=7, trial_wins=5, trial_ties=20, trial_losses=1), id="of the reference"),
        pytest.param("F", NameChanges(), id="against another encoder"),
    ],
)
def test_the_trial_counts_if_it_was_against_the_references_encoder(before: str, trial: NameChanges) -> None:
    ring = recent()
    ring.refer_to(Reference(7, None, "E"))
    trial_result = EncoderTrial(before, Paired(num=26, right=18, lost=1, won=5))
    assert ring.name_changes(WITH_C, NO_SAMPLES, trial_result) == trial
    ring.refer_to(Reference(8, WITH_C))
    assert not ring.name_changes(WITH_C, NO_SAMPLES, trial_result).trial_wins, "the encoder is the same"
