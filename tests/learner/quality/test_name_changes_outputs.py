"""The different predictions of a version of sets and the reference, among the classes that both know."""

from functools import partial

from learner.fast.fast_head import Rows
from learner.quality.evaluation import ScoredVersion
from learner.quality.recent_events import RecentEvents
from lifelong.plugins.inputs.feature_tensors import Scale
from lifelong.plugins.kinds.sets import join_names
from tests.learner.quality.versions import SERVED, events_with, ring_with
from tests.learner.quality.versions import version as one_class_version
from tests.learner.small_learner import with_scales
from wire.inputs import encode_content
from wire.label_set import LabelSet
from wire.records import LabelCommand, NewClass

version = partial(one_class_version, threshold=0.5)

OLD = version(a=0, b=1)
WITH_C = version(a=0, b=1, c=2)


def events(*places: str, labels: str) -> Rows:
    """Events with these features, such as "01", and sets of labels, such as "ab"."""
    features = [[int(place) for place in each.replace("-", "")] for each in places]
    return events_with(features, [join_names(names.replace("-", "")) for names in labels.split()])


def recent(reference: ScoredVersion = OLD) -> RecentEvents:
    return ring_with(reference)


def test_a_new_class_changes_no_old_class() -> None:
    ring = recent()
    ring.add(events("0", "01", "12", "2", "-", labels="a ab bc c -"), SERVED, OLD)
    found = ring.name_changes(WITH_C)
    assert (found.texts, found.between_old, found.to_new, found.labels) == (5, 0, 2, 5)
    assert found.new_classes == (NewClass(label="c", texts=2, labels=2),)
    assert (found.wins, found.ties, found.losses, found.forgotten, found.lost) == (0, 5, 0, 0, 0)


def test_a_class_that_is_no_longer_predicted_counts_as_changed_and_forgotten() -> None:
    ring = recent()
    ring.add(events("0", "01", "1", labels="a ab b"), SERVED, OLD)
    found = ring.name_changes(version(a=0, b=9))
    assert found.between_old == 2
    assert 1 <= found.forgotten <= 2, "of the set that is named in part, the draw decides"


def test_the_line_is_judged_by_whole_sets_before_they_are_learnt() -> None:
    ring = recent(version(a=9, b=9))
    ring.add(events("0", "1", "01", labels="a b ab"), SERVED, OLD)
    found = ring.name_changes(OLD)
    assert (found.wins, found.ties, found.losses) == (3, 0, 0)


def test_a_retired_class_does_not_count_against_a_version() -> None:
    ring = recent()
    retire = LabelCommand(number=1, action="retire", labels=("b",), time_ms=1)
    ring.rename(LabelSet().after(retire))
    ring.add(events("0", "01", labels="a a"), SERVED, OLD)
    assert ring.name_changes(version(a=0)).between_old == 0


def test_a_reference_with_other_scales_predicts_by_its_own_features() -> None:
    scaled = with_scales(SERVED, {"amount": Scale(0.0, 1.0)})
    contents = [encode_content("", {"amount": 3.0})]
    phi_BR, before_BR = (served.features(served.z_many(contents)) for served in (scaled, SERVED))
    only_before = int(((before_BR > 0.5) & (phi_BR == 0)).nonzero()[0, 1])
    only_now = int(((phi_BR > 0.5) & (before_BR == 0)).nonzero()[0, 1])
    ring = recent(version(a=only_before))
    ring.add(Rows(before_BR, [join_names("a")], contents, are_all=True), SERVED, version(a=only_before))
    ring.add(Rows(phi_BR, [join_names("a")], contents, are_all=True), scaled, version(a=only_now))
    found = ring.name_changes(version(a=only_now)._replace(served=scaled))
    assert (found.texts, found.between_old, found.forgotten) == (2, 0, 0)
    found = ring.name_changes(version(a=only_before)._replace(served=scaled))
    assert (found.between_old, found.forgotten) == (2, 2)
    assert found.ties == 1 and found.losses == 1, "the newest one was read under its own scales, too"
