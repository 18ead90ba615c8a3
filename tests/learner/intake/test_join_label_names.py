"""Labels and answers under older names are translated when they meet, and labels outside the set are refused."""

from dataclasses import replace

from learner.config import LearnerConfig
from learner.intake.join import Join, LabelNames
from learner.samples import HoldoutDraw
from tests.learner.intake.joins import Known, answer, label, label_names, make_trust
from wire.config import LabelConfig
from wire.label_set import LabelSet
from wire.records import LabelCommand

CONFIG = LearnerConfig(holdout_share=0.0)
RENAMED = LabelCommand(number=1, action="rename", labels=("yes",), to=("agreed",))
RETIRED = LabelCommand(number=2, action="retire", labels=("no",))


def make_join(known: Known) -> Join:
    return Join(CONFIG, make_trust(), LabelNames(lambda: known, HoldoutDraw(0.0)))


def test_what_waits_is_translated_when_it_meets() -> None:
    known = Known(CONFIG, LabelSet())
    join = make_join(known)
    join.match([answer("a", label="yes"), label("b", "yes")])  # an answer waits, and a label is parked
    known.labels = known.labels.after(RENAMED)
    samples = join.match([label("a", "yes"), answer("b", label="no")])
    assert [(each.label, each.predicted_label) for each in samples] == [("agreed", "agreed"), ("agreed", "no")]


def test_a_label_whose_class_was_retired_while_it_was_parked_is_held() -> None:
    known = Known(CONFIG, LabelSet())
    join = make_join(known)
    join.match([label("b", "no")])
    known.labels = known.labels.after(RETIRED)
    assert join.match([answer("b", label="no")]) == []
    (held,) = join.take_quarantined()
    assert held.reason == "retired" and "lifelong labels add" in held.detail
    assert join.counts["quarantined_retired"] == 1


def test_a_new_label_is_asked_for_unless_its_class_has_a_row() -> None:
    known = Known(CONFIG, LabelSet(LabelConfig(mode="ask")), frozenset({"yes"}))
    join = make_join(known)
    assert len(join.match([answer("a"), label("a", " yes ")])) == 1
    join.match([answer("b"), label("b", "maybe")])
    (held,) = join.take_quarantined()
    assert (held.reason, join.counts["refused_new_label"]) == ("new_label", 1)
    known.labels = replace(known.labels, added=frozenset({"maybe"}))
    assert [each.label for each in join.match([held.feedback])] == ["maybe"]  # its answer still waits


def test_the_holdout_is_drawn_by_the_secret_that_is_given_later() -> None:
    """N7: the learner's process gives the secret of its keys before anything is restored or read."""
    names = label_names(LearnerConfig(holdout_share=0.5))
    keys = [("crm", str(number)) for number in range(200)]
    before = list(map(names.is_in_holdout, keys))
    names.draw_holdout_by(b"secret")
    assert 60 < sum(map(names.is_in_holdout, keys)) < 140
    assert list(map(names.is_in_holdout, keys)) != before
