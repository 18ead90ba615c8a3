"""Unlearns samples: wrong labels, classes whose concept has changed, evicted classes, and erased subjects.

    replay buffer, fresh, holdout --take out--> samples --unlearn--> the fast head, and the head of the round under way

All sums are exact, so unlearning a sample of the replay buffer leaves no trace. If the buffer has dropped samples, some
of these may be about an erased subject. Then the head is learnt again from the buffer.

Shapes: N samples from before a concept change, M of them that have a new class, D width.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final, NamedTuple

import structlog
from torch import Tensor

from learner.fast.fast_head import find_successor, has_moved, predict_since
from learner.knowledge import Knowledge
from learner.memory import Replay
from learner.samples import Labelled, Sample
from learner.state.lineage import add_change
from wire.records import ConceptChange

MAX_TOGETHER: Final = 16
"""The most classes that restart together. New labels have to wait while the texts of these classes are encoded."""

log = structlog.get_logger("learner")


class Renamed(NamedTuple):
    """The old samples of a class whose concept has changed, and their new labels.

    `new` has those of the old samples that belong to some class now, under their new labels. Each list comes with its
    vectors.
    """

    old: list[Labelled]
    old_ND: Tensor
    new: list[Labelled]
    new_MD: Tensor


def erase(known: Knowledge, holds: Callable[[str], bool], *, keep_alive: Callable[[], None]) -> dict[str, int]:
    """Unlearns the samples about subjects for which `holds` is true.

    Returns the numbers of removed samples, by where they were stored. A round under way is dropped, since its plan
    contains texts. The anchor is dropped, too, since it contains hashes of texts. `keep_alive` is called repeatedly,
    since relearning the head takes seconds. Past gradient steps are not undone.
    """
    is_complete = known.fast_head.ridge.num_texts == len(known.replay)
    gone = [sample for sample in known.replay.samples() if holds(sample.subject)]
    memories = {"replay": known.replay, "holdout": known.holdout.samples, "fresh": known.fresh}
    removed = {name: memory.erase(holds) for name, memory in memories.items()}
    if known.round is not None:
        known.round.wait()
        known.drop()
    known.break_lineage("a subject was erased")
    known.holdout.keep(known.encoder_keys)
    known.fast_head.served.forget_texts()
    known.forget_anchor()
    if is_complete:
        known.fast_head.unlearn_many(gone)
        return removed
    relearnt = known.fast_head.successor(known.fast_head.served)
    relearnt.relearn(known.replay.samples(), after_unit=keep_alive)
    known.fast_head = relearnt
    return removed


def correct(known: Knowledge, correction: Sample) -> Sample | None:
    """Unlearns the old label of an event; returns the sample with the corrected label, None if it was not found."""
    event = correction.event
    wrong = _take_out(known, lambda sample: sample.event == event and sample.label != correction.label)
    known.counts["corrected" if wrong else "corrections_without_effect"] += 1
    return correction.about(wrong[0].text, wrong[0].subject, wrong[0].time_ms) if wrong else None


def withdraw(known: Knowledge, withdrawn: Iterable[Sample]) -> None:
    """Unlearns labels that are not trusted any more."""
    label_of_event = {sample.event: sample.label for sample in withdrawn}
    wrong = _take_out(known, lambda sample: label_of_event.get(sample.event) == sample.label)
    known.counts["withdrawals_without_effect"] += len(label_of_event) - len(wrong)
    # The order of the labels decides which of them are withdrawn. A rebuild may read the partitions in another order.
    known.break_lineage("a flip was noticed, and which labels it held depends on their order")


def _take_out(known: Knowledge, is_wrong: Callable[[Labelled], bool]) -> list[Labelled]:
    """Removes and unlearns the samples whose labels are wrong. Returns the learnt ones, then those of the holdout."""
    learnt = known.replay.take_out(is_wrong)
    known.fresh.take_out(is_wrong)
    has_dropped = known.fast_head.ridge.num_samples > len(known.replay) + len(learnt)
    has_dropped = has_dropped or bool(learnt and known.fast_head.recency.newest.is_any_full)
    known.fast_head.unlearn_many(learnt)
    if known.round is not None:
        known.round.learn_meanwhile([], unlearnt=learnt)
    if has_dropped:
        known.break_lineage("a label was unlearnt after the replay buffer had dropped samples")
    return learnt + known.holdout.samples.take_out(is_wrong)


def go_back(current: Knowledge, earlier: Knowledge) -> None:
    """Prepares the knowledge `earlier` to replace `current`. All labels that only `current` has learnt are set aside.

    `earlier` takes over the holdout of `current`. First waits for the current unit of its round. Otherwise the unit
    could keep texts that an erasure cannot find.
    """
    if current.round is not None:
        current.round.wait()
    earlier.holdout = current.holdout
    earlier.forget_anchor()
    earlier.break_lineage("labels were set aside")


def restart(known: Knowledge, change: ConceptChange) -> None:
    """Unlearns the samples of a class from before its concept changed, and records the change in the lineage."""
    restart_since(known, change)
    known.lineage = add_change(known.lineage, change)


def restart_since(known: Knowledge, change: ConceptChange) -> None:
    """Unlearns the samples of a class from before its concept changed. Drops a round under way, which trains on them.

    The old texts in the replay buffer are learnt again as samples of the class to which they belong now, the successor
    class. If the concept of the successor class has changed, too, and this is not detected yet, it also restarts.
    """
    if known.round is not None:
        known.round.wait()
        known.drop()
    head = known.fast_head
    renamed = _renamed(known, change)
    for label, samples in renamed.items():
        known.concept_changes.follow(ConceptChange(label, change.since_ms))
        _take_outdated(known, label, change.since_ms, samples)
    known.holdout.keep(known.encoder_keys)
    for samples in renamed.values():
        if samples.new:
            head.learn_encoded(samples.new_MD, head.served.features(samples.new_MD), samples.new)
    relabelled = list(chain.from_iterable(samples.new for samples in renamed.values()))
    known.replay.add(relabelled)
    known.counts["concept_changes"] += len(renamed)
    log.warning("concept_changed", labels=list(renamed), since_ms=change.since_ms, renamed=len(relabelled))


def _renamed(known: Knowledge, change: ConceptChange) -> dict[str, Renamed]:
    """Returns the classes whose concept has changed, with their old samples: the class of `change`, and maybe others.

    An old text that resembles the labels of its class since the change keeps its class, since the change was dated too
    late.
    """
    head = known.fast_head
    since_ms = change.since_ms
    renamed = dict[str, Renamed]()
    label = change.label
    old, old_ND = _find_outdated(known, label, since_ms)
    names = predict_since(head, old_ND, since_ms)
    while label not in renamed:
        successor = find_successor(names)
        own, own_ND = _find_outdated(known, successor, since_ms)
        if len(renamed) == MAX_TOGETHER - 1 or not has_moved(head, successor, own_ND, old_ND, since_ms):
            successor = ""
        now = [label if name == label else successor for name in names]
        new = [sample._replace(label=name, time_ms=since_ms) for sample, name in zip(old, now, strict=True) if name]
        renamed[label] = Renamed(old, old_ND, new, old_ND[[bool(name) for name in now]])
        own_names = predict_since(head, own_ND, since_ms)
        # If the old texts of the successor class belong elsewhere now, the successor class has changed, too.
        if successor and own and find_successor(own_names) != successor:
            label = successor
            old = own
            old_ND = own_ND
            names = own_names
    return renamed


def _find_outdated(known: Knowledge, label: str, since_ms: int) -> tuple[list[Labelled], Tensor]:
    """Returns the samples of a class in the replay buffer that are older than `since_ms`, and their vectors (N, D)."""
    outdated = _outdated(known.replay, label, since_ms)
    z_ND, _ = known.fast_head.encode(outdated)
    return outdated, z_ND


def _take_outdated(known: Knowledge, label: str, since_ms: int, renamed: Renamed) -> None:
    """Unlearns the samples of a class that are older than `since_ms`."""
    head = known.fast_head
    for memory in (known.replay, known.fresh, known.holdout.samples):
        memory.take_out(set(_outdated(memory, label, since_ms)).__contains__)
    if renamed.old:
        head.unlearn_encoded(renamed.old_ND, head.served.features(renamed.old_ND), [label] * len(renamed.old))
    head.restart(label, since_ms, known.replay.of(label))


def _outdated(memory: Replay[Labelled], label: str, since_ms: int) -> list[Labelled]:
    """Returns the samples of a class that are older than `since_ms`, sorted. The sample of its name is not included."""
    return sorted(sample for sample in memory.of(label) if sample.event and sample.time_ms < since_ms)


def make_room(known: Knowledge, label: str, weaker: Sequence[str]) -> bool:
    """Evicts a class, and gives its row to the class `label`. Returns False if no class can be evicted.

    `weaker` are the classes that may be evicted, in the order of preference. A class can only be evicted if all of its
    samples are in the replay buffer.
    """
    ridge = known.fast_head.ridge
    evicted = next((name for name in weaker if ridge.count_samples(name) == len(known.replay.of(name))), None)
    if evicted is not None:
        _evict(known, evicted, label)
    return evicted is not None


def _evict(known: Knowledge, old: str, new: str) -> None:
    """Unlearns the class `old`, and gives its row to the class `new`."""
    samples = known.replay.of(old)
    if known.round is not None:
        known.round.evict(samples, old, new)
    known.fast_head.evict(samples, old, new)
    for memory in (known.replay, known.fresh, known.holdout.samples):
        memory.erase_class(old)
    known.concept_changes.forget(old)
    known.holdout.keep(known.encoder_keys)
    known.counts["classes_evicted"] += 1
    known.counts["labels_evicted"] += known.classes.evict(old)
    known.classes.admit(new)
    known.break_lineage("a class lost its row to another")
    log.info("class_evicted", evicted=old, admitted=new)
