"""Unlearns samples: wrong labels, classes whose concept changed, classes that make room, erased subjects.

    replay buffer, fresh, holdout --take out--> samples --unlearn--> the fast head, and the head of the round under way

All sums are exact, so unlearning a sample of the replay buffer leaves no trace. If the buffer has dropped samples, some
of these may belong to an erased subject: then the head is learnt again from the buffer.

Shapes: N samples from before a concept change, M of them that have a new class, D width.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final, NamedTuple

import structlog
from torch import Tensor

from learner.fast.fast_head import has_moved, predict_since, successor_of
from learner.knowledge import Knowledge
from learner.memory import Replay
from learner.samples import Labelled, Sample
from learner.state.lineage import add_change
from wire.records import ConceptChange

MAX_TOGETHER: Final = 16
"""The most classes that restart together: labels wait while the texts of each are encoded."""

log = structlog.get_logger("learner")


class Renamed(NamedTuple):
    """The old samples of a class whose concept changed, and the ones among them that belong to a class now.

    `new` has these under their new label. Each list comes with its vectors.
    """

    old: list[Labelled]
    old_ND: Tensor
    new: list[Labelled]
    new_MD: Tensor


def erase(known: Knowledge, holds: Callable[[str], bool], *, keep_alive: Callable[[], None]) -> dict[str, int]:
    """Unlearns every sample whose subject `holds` names; returns the number of removed samples by memory.

    A round under way is dropped, since its plan holds texts, and so is the anchor, which holds hashes of texts.
    `keep_alive` is called repeatedly, since relearning the head takes seconds. Past gradient steps are not undone.
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
    anew = known.fast_head.successor(known.fast_head.served)
    anew.relearn(known.replay.samples(), after_unit=keep_alive)
    known.fast_head = anew
    return removed


def correct(known: Knowledge, correction: Sample) -> Sample | None:
    """Unlearns an event under its old label; returns the sample under the corrected one, None if it was not found."""
    event = correction.event
    wrong = _take_out(known, lambda sample: sample.event == event and sample.label != correction.label)
    known.counts["corrected" if wrong else "corrections_without_effect"] += 1
    return correction.about(wrong[0].text, wrong[0].subject, wrong[0].time_ms) if wrong else None


def withdraw(known: Knowledge, withdrawn: Iterable[Sample]) -> None:
    """Unlearns labels that are not trusted any more."""
    said = {sample.event: sample.label for sample in withdrawn}
    wrong = _take_out(known, lambda sample: said.get(sample.event) == sample.label)
    known.counts["withdrawals_without_effect"] += len(said) - len(wrong)
    # The order of the labels decides which of them are withdrawn. A rebuild may read the partitions in another order.
    known.break_lineage("a flip was noticed, and which labels it held depends on their order")


def _take_out(known: Knowledge, is_wrong: Callable[[Labelled], bool]) -> list[Labelled]:
    """Removes and unlearns the samples whose label is wrong. Returns the learnt ones, then the holdout's."""
    learnt = known.replay.take_out(is_wrong)
    known.fresh.take_out(is_wrong)
    has_dropped = known.fast_head.ridge.num_samples > len(known.replay) + len(learnt)
    has_dropped = has_dropped or bool(learnt and known.fast_head.recency.newest.is_any_full)
    known.fast_head.unlearn_many(learnt)
    if known.round is not None:
        known.round.learn_meanwhile([], unlearnt=learnt)
    if has_dropped:
        known.break_lineage("a label was taken out while a memory did not hold everything")
    return learnt + known.holdout.samples.take_out(is_wrong)


def set_aside(newer: Knowledge, known: Knowledge) -> None:
    """Prepares `known` to replace `newer`, whose labels are set aside; `known` takes over the holdout.

    The round of `newer` ends its current unit first: an erasure must find every text that a unit keeps.
    """
    if newer.round is not None:
        newer.round.wait()
    known.holdout = newer.holdout
    known.forget_anchor()
    known.break_lineage("labels were set aside")


def restart(known: Knowledge, change: ConceptChange) -> None:
    """Unlearns the samples of a class from before its concept changed, and records the change in the lineage."""
    restart_since(known, change)
    known.lineage = add_change(known.lineage, change)


def restart_since(known: Knowledge, change: ConceptChange) -> None:
    """Unlearns the samples of a class from before its concept changed. A round under way is dropped: it trains on them.

    The old texts in the replay buffer move to the class that they belong to now, the successor class. If the concept of
    the successor class has changed, too, without having been detected yet, it restarts at once.
    """
    if known.round is not None:
        known.round.wait()
        known.drop()
    head = known.fast_head
    renamed = _renamed(known, change)
    for label, each in renamed.items():
        known.concept_changes.follow(ConceptChange(label, change.since_ms))
        _take_outdated(known, label, change.since_ms, each)
    known.holdout.keep(known.encoder_keys)
    for each in renamed.values():
        if each.new:
            head.learn_encoded(each.new_MD, head.served.features(each.new_MD), each.new)
    texts = list(chain.from_iterable(each.new for each in renamed.values()))
    known.replay.add(texts)
    known.counts["concept_changes"] += len(renamed)
    log.warning("concept_changed", labels=list(renamed), since_ms=change.since_ms, renamed=len(texts))


def _renamed(known: Knowledge, change: ConceptChange) -> dict[str, Renamed]:
    """Returns the classes whose concept changed, at least the class of `change`, each with its old samples.

    A text that resembles the class's labels since the change keeps its class: the change was dated too late.
    """
    head = known.fast_head
    since_ms = change.since_ms
    renamed = dict[str, Renamed]()
    label = change.label
    old, old_ND = _outdated_of(known, label, since_ms)
    names = predict_since(head, old_ND, since_ms)
    while label not in renamed:
        successor = successor_of(names)
        own, own_ND = _outdated_of(known, successor, since_ms)
        if len(renamed) == MAX_TOGETHER - 1 or not has_moved(head, successor, own_ND, old_ND, since_ms):
            successor = ""
        now = [label if name == label else successor for name in names]
        new = [sample._replace(label=name, time_ms=since_ms) for sample, name in zip(old, now, strict=True) if name]
        renamed[label] = Renamed(old, old_ND, new, old_ND[[bool(name) for name in now]])
        own_names = predict_since(head, own_ND, since_ms)
        # Otherwise the texts of the successor class are where they belong.
        if successor and own and successor_of(own_names) != successor:
            label = successor
            old = own
            old_ND = own_ND
            names = own_names
    return renamed


def _outdated_of(known: Knowledge, label: str, since_ms: int) -> tuple[list[Labelled], Tensor]:
    """Returns the samples of a class in the replay buffer from before `since_ms`, and their vectors (N, D)."""
    outdated = _outdated(known.replay, label, since_ms)
    z_ND, _ = known.fast_head.encode(outdated)
    return outdated, z_ND


def _take_outdated(known: Knowledge, label: str, since_ms: int, renamed: Renamed) -> None:
    """Unlearns the samples of a class from before `since_ms`."""
    head = known.fast_head
    for memory in (known.replay, known.fresh, known.holdout.samples):
        memory.take_out(set(_outdated(memory, label, since_ms)).__contains__)
    if renamed.old:
        head.unlearn_encoded(renamed.old_ND, head.served.features(renamed.old_ND), [label] * len(renamed.old))
    head.restart(label, since_ms, known.replay.of(label))


def _outdated(memory: Replay[Labelled], label: str, since_ms: int) -> list[Labelled]:
    """Returns the samples of a class from before `since_ms`, sorted; without the class's name, which has no event."""
    return sorted(sample for sample in memory.of(label) if sample.event and sample.time_ms < since_ms)


def make_room(known: Knowledge, label: str, weaker: Sequence[str]) -> bool:
    """Gives `label` the row of the weakest class whose samples are all in the replay buffer. False if there is none."""
    ridge = known.fast_head.ridge
    evicted = next((name for name in weaker if ridge.num_of(name) == len(known.replay.of(name))), None)
    if evicted is not None:
        _evict(known, evicted, label)
    return evicted is not None


def _evict(known: Knowledge, old: str, new: str) -> None:
    """Unlearns a class, and gives its row to another."""
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
