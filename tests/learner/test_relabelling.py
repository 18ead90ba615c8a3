"""What operators do to the set of labels: afterwards the learner is one that was given the new names from the start."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.learner import Learner
from learner.memory import Replay
from learner.quality.comparison import Anchor, sample_hash
from learner.relabelling import relabel
from learner.samples import Labelled
from learner.state.snapshot import Facts
from tests.learner.small_learner import Setting, hold, small_learner
from tests.learner.streams import TOPICS, answer, feedback, label_of, labelled_events
from wire.config import LabelConfig
from wire.records import Answer, Feedback, LabelAction, LabelCommand


def command(
    number: int, action: LabelAction, *labels: str, to: tuple[str, ...] = (), forgets: bool = False
) -> LabelCommand:
    return LabelCommand(number=number, action=action, labels=labels, to=to, forgets=forgets, time_ms=10_000)


def records(first: int, last: int, names: Mapping[str, str]) -> list[Answer | Feedback]:
    """The answers and labels of these events, by other names of the classes."""
    found = list[Answer | Feedback]()
    for number in range(first, last):
        label = label_of(number)
        found += [answer(number, label=None), feedback(number, label=names.get(label, label))]
    return found


def taught(first: int, last: int, names: Mapping[str, str] | None = None, /, **changed: Setting) -> Learner:
    return fed(small_learner(**changed), first, last, names or {})


def fed(it: Learner, first: int, last: int, names: Mapping[str, str]) -> Learner:
    it.learn_many(records(first, last, names), {"feedback.v1/0": last})
    return it


def follow(it: Learner, *commands: LabelCommand) -> list[dict[str, int]]:
    samples: list[dict[str, int]] = []
    for each in commands:
        hold(it, each)
        samples.append(relabel(it, each))
    return samples


def sums(it: Learner) -> dict[str, torch.Tensor]:
    """All sums, those by class in the order of the names."""
    head = it.fast_head
    return head.with_order(sorted(head.ridge.classes)).export()


def assert_same(one: Learner, other: Learner) -> None:
    assert sorted(one.fast_head.ridge.classes) == sorted(other.fast_head.ridge.classes)
    for name, values in sums(one).items():
        assert torch.equal(values.double(), sums(other)[name].double()), name
    for memory in ("replay", "fresh"):
        assert list_samples(getattr(one.knowledge, memory)) == list_samples(getattr(other.knowledge, memory)), memory
    assert list_samples(one.knowledge.holdout.samples) == list_samples(other.knowledge.holdout.samples)
    assert one.knowledge.classes.export().labels == other.knowledge.classes.export().labels


def list_samples(memory: Replay[Labelled]) -> list[Labelled]:
    return sorted(memory.samples())


RENAMED = {"refund": "money back"}
MERGED = {"refund": "money", "invoice": "money"}


def test_a_renamed_class_is_one_that_had_the_new_name_from_the_start() -> None:
    it = taught(0, 60)
    (moved,) = follow(it, command(1, "rename", "refund", to=("money back",)))
    assert_same(it, taught(0, 60, RENAMED))
    assert it.fast_head.ridge.classes == taught(0, 60, RENAMED).fast_head.ridge.classes
    assert torch.equal(it.fast_head.solve(), taught(0, 60, RENAMED).fast_head.solve())
    assert moved["replay"] > 5 and it.progress.num_breaks == 1


def test_merged_classes_are_one_that_had_the_name_from_the_start() -> None:
    it = taught(0, 60)
    follow(it, command(1, "merge", "refund", "invoice", to=("money",)))
    other = taught(0, 60, MERGED)
    assert_same(it, other)
    assert torch.equal(it.fast_head.solve(), other.fast_head.solve())


def test_a_class_may_be_merged_into_another_one() -> None:
    it = taught(0, 60)
    follow(it, command(1, "merge", "refund", to=("invoice",)))
    assert_same(it, taught(0, 60, {"refund": "invoice"}))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["rename", "merge"]), st.sampled_from([*TOPICS, "a", "b"]), st.sampled_from("abc")),
        max_size=4,
    ),
    st.integers(5, 40),
)
def test_any_renames_at_any_time_come_to_the_same(steps: list[tuple[LabelAction, str, str]], place: int) -> None:
    """Labels before the commands come under old names, those after them under old ones, too: they are translated."""
    it = taught(0, place)
    commands = [command(number, action, old, to=(new,)) for number, (action, old, new) in enumerate(steps, start=1)]
    follow(it, *commands)
    fed(it, place, 45, {})
    first = small_learner()
    follow(first, *commands)
    assert_same(it, fed(first, 0, 45, {}))


def test_late_labels_and_answers_of_an_old_name_mean_the_new_one() -> None:
    it = taught(0, 30)
    it.learn_many([answer(30, label="refund")], {"feedback.v1/0": 30})
    follow(it, command(1, "rename", "refund", to=("money back",)))
    it.learn_many([feedback(30)], {"feedback.v1/0": 31})
    assert it.counts["learnt"] + it.counts["holdout"] == 31 and it.fast_head.ridge.count_samples("refund") == 0
    assert it.prequential.num_correct == 1


def test_a_retired_class_is_gone_and_its_labels_are_refused() -> None:
    it = taught(0, 60)
    (gone,) = follow(it, command(1, "retire", "refund"))
    assert "refund" not in it.fast_head.ridge.classes and gone["replay"] > 5
    assert not it.replay.of("refund") and not it.knowledge.holdout.samples.of("refund")
    refused = it.learn_many(records(60, 61, {}), {})
    assert [each.reason for each in refused] == ["retired"] and "lifelong labels add" in refused[0].detail
    assert it.join.counts["refused_retired"] == 1
    follow(it, command(2, "add", "refund"))
    assert (
        it.learn_many(records(65, 66, {}), {}) == [] and it.fast_head.ridge.count_samples("refund") == 2
    )  # and its name


def test_what_is_retired_leaves_the_sums_of_the_others_where_the_memory_held_it() -> None:
    it = taught(0, 60)
    follow(it, command(1, "retire", "refund"))
    other = small_learner()
    for number in range(60):
        if label_of(number) != "refund":
            fed(other, number, number + 1, {})
    for name, values in sums(it).items():
        assert torch.equal(values.double(), sums(other)[name].double()), name


@pytest.mark.parametrize("forgets", [False, True])
def test_a_class_that_is_split_keeps_its_texts_or_forgets_them(forgets: bool) -> None:
    it = taught(0, 60, holdout_share=0.0)
    before = it.fast_head.ridge.count_samples("refund")
    follow(it, command(1, "split", "refund", to=("refund by card",), forgets=forgets))
    assert (it.fast_head.ridge.count_samples("refund") == before) is not forgets
    it.learn_many(labelled_events(range(100, 103), label="refund by card"), {})
    assert it.fast_head.ridge.count_samples("refund by card") == 4
    assert it.knowledge.lineage.concept_changes == ()


def test_a_round_under_way_is_dropped() -> None:
    it = taught(0, 60)
    it.begin("labels")
    follow(it, command(1, "rename", "refund", to=("money back",)))
    assert it.knowledge.round is None and it.knowledge.lineage.rounds[-1].outcome == "dropped"
    changes = it.knowledge.lineage.label_changes
    assert [each.command.number for each in changes] == [1] and changes[0].offsets == {"feedback.v1/0": 60}


def test_the_set_survives_a_restart() -> None:
    it = taught(0, 60)
    follow(it, command(1, "rename", "refund", to=("money back",)), command(2, "retire", "invoice"))
    hold(it, command(3, "add", "new"), is_applied=False)
    facts: Facts = it.export(None).facts
    assert (facts.applied_seq, len(facts.commands.entries)) == (2, 3)
    again = small_learner()
    again.restore(it.export(None))
    assert again.knowledge.labels == it.knowledge.labels and again.commands.export() == it.commands.export()
    assert_same(it, again)


def test_the_anchor_and_confusions_follow_a_rename() -> None:
    it = taught(0, 60)
    it.learn_many([answer(61, label="refund"), feedback(61)], {})
    known = it.knowledge
    known.anchor = Anchor(
        version=1, num_classes=5, right=[sample_hash(each) for each in known.holdout.samples.samples()]
    )
    follow(it, command(1, "rename", "refund", to=("money back",)))
    assert set(known.anchor.right) == {sample_hash(each) for each in known.holdout.samples.samples()}
    assert "money back" in {each.answered for each in it.prequential.confusions()}


def test_labels_outside_the_list_are_refused_by_name() -> None:
    it = small_learner()
    it.knowledge.labels = type(it.knowledge.labels)(
        LabelConfig(mode="listed", allow=("refund", "delivery", "password"))
    )
    refused = it.learn_many(records(0, 10, {"invoice": "refundd"}), {})
    assert {each.reason for each in refused} == {"not_listed"} and it.join.counts["refused_not_listed"] == 4
    assert "did you mean 'refund'?" in next(each.detail for each in refused if each.label == "refundd")
