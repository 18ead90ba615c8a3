"""Takes out what was learnt and is wrong now: a corrected label, a changed concept, a class that makes room.

    replay memory, fresh, holdout --take out--> samples --unlearn--> the fast head, and that of the round under way

All sums are exact, so what is taken out leaves no trace, as far as the replay memory holds it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from learner.labels.sample import Sample
from learner.memory.replay import Labelled
from learner.state.lineage import add_change
from wire.events import encoded_key
from wire.recent import hash_of
from wire.records import ConceptChange

if TYPE_CHECKING:
    from learner.knowledge import Knowledge

log = structlog.get_logger("learner")


def correct(known: "Knowledge", correction: Sample) -> Sample | None:
    """Takes out what was learnt of an event under another label; returns it under the right one, None for none."""
    event = hash_of(encoded_key(correction.key))

    def is_wrong(sample: Labelled) -> bool:
        return sample.event == event and sample.label != correction.label

    learnt = known.replay.take_out(is_wrong)
    known.fresh.take_out(is_wrong)
    known.fast_head.unlearn_many(learnt)
    if known.round is not None:
        known.round.learn_meanwhile([], unlearnt=learnt)
    wrong = learnt + known.holdout.samples.take_out(is_wrong)
    known.counts["corrected" if wrong else "corrections_without_effect"] += 1
    if known.fast_head.ridge.num_samples > len(known.replay):
        known.break_lineage("a label was corrected while the memory did not hold everything")
    return correction.about(wrong[0].text, wrong[0].subject, wrong[0].time_ms) if wrong else None


def restart(known: "Knowledge", change: ConceptChange) -> None:
    """Takes out what was learnt of a class before it changed. The round under way is dropped: it trains on that."""

    def is_outdated(sample: Labelled) -> bool:
        is_of_event = sample.event != 0  # the words of the class's name are of none
        return is_of_event and sample.label == change.label and sample.time_ms < change.since_ms

    known.concept_changes.follow(change)
    learnt = known.replay.take_out(is_outdated)
    known.fresh.take_out(is_outdated)
    known.holdout.samples.take_out(is_outdated)
    known.holdout.keep(known.encoder_keys)
    if known.round is not None:
        known.round.wait()
        known.drop()
    known.fast_head.unlearn_many(learnt)
    known.fast_head.restart(change.label, change.since_ms, known.replay.of(change.label))
    known.lineage = add_change(known.lineage, change)
    known.counts["concept_changes"] += 1
    log.warning("concept_changed", label=change.label, since_ms=change.since_ms, taken_out=len(learnt))


def make_room(known: "Knowledge", label: str, weaker: Sequence[str]) -> bool:
    """Gives `label` the row of the weakest class of which the memory holds all. False where there is none."""
    ridge = known.fast_head.ridge
    evicted = next((name for name in weaker if ridge.num_of(name) == len(known.replay.of(name))), None)
    if evicted is not None:
        _evict(known, evicted, label)
    return evicted is not None


def _evict(known: "Knowledge", old: str, new: str) -> None:
    """Takes out all that was learnt of a class, and gives its row to another."""
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
