"""Learns samples whose class has a row, a batch at a time, while a helper encodes the next ones.

    stream --withdrawn, corrections, concept changes--> `learner.unlearning`
           --its class has a row, or gets one--> samples
    samples --in the holdout--> holdout, with their vectors
            --names of new classes before them--> batches --both threads--> z --nearest--> drift, concept changes
                                                                            '--> fast head, replay memory, fresh

A vector does not depend on what is encoded beside it, and the sums are exact, so the batches change nothing.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from itertools import groupby
from typing import Final, cast

import structlog
from torch import Tensor

from learner import unlearning
from learner.drift import DriftWatch, observations
from learner.fast.fast_head import RELEARN_BATCH
from learner.knowledge import Knowledge
from learner.memory import with_names
from learner.rounds.worker import INLINE, in_order
from learner.samples import Labelled, Learnable, Sample
from wire.inputs import is_encoded
from wire.kinds import kind_of
from wire.records import ConceptChange

LONGEST: Final = 2.0
"""Length above which a vector cannot be learnt: encoders make unit vectors, and one that overflowed may be of any."""

log = structlog.get_logger("learner")

BACKLOG: Final = 3
"""Fewest batches that are shared with the helper, which has a lower priority: the next version would wait for it."""


def learn_many(known: Knowledge, samples: Sequence[Learnable], drift: DriftWatch, helper: Executor = INLINE) -> None:
    """Learns the samples whose class has a row or gets one, or adds them to the holdout; counts the others.

    Among them stands each change of a concept, where it was found, and what is withdrawn. `helper` encodes beside
    this thread.
    """
    for are_withdrawn, some in groupby(samples, lambda each: isinstance(each, Sample) and each.is_withdrawn):
        if are_withdrawn:
            unlearning.withdraw(known, cast("Iterable[Sample]", some))
        else:
            _learn_in_order(known, some, drift, helper)


def _learn_in_order(known: Knowledge, samples: Iterable[Learnable], drift: DriftWatch, helper: Executor) -> None:
    admitted = list[Sample]()
    for each in samples:
        if isinstance(each, ConceptChange) or each.is_correction:  # it takes out some of those before it, perhaps
            _learn(known, admitted, drift, helper)
            admitted = []
        if isinstance(each, ConceptChange):
            unlearning.restart(known, each)
            continue
        sample = unlearning.correct(known, each) if each.is_correction else each
        if sample is None or not kind_of(sample.label).is_exclusive:
            admitted += [known.classes.within(sample)] if sample else []
            continue
        if known.concept_changes.is_outdated(sample.label, sample.answer_time_ms):
            known.counts["outdated"] += 1
            continue
        known.classes.count_label(sample.label)
        weaker = known.classes.in_the_way_of(sample)
        if weaker:  # the samples before this one count in the choice of the class that makes room
            _learn(known, admitted, drift, helper)
            admitted = []
        if known.classes.has_row_for(sample) or unlearning.make_room(known, sample.label, weaker):
            admitted.append(sample)
        else:
            known.counts["over_capacity"] += 1
    _learn(known, admitted, drift, helper)


def _learn(known: Knowledge, samples: Sequence[Sample], drift: DriftWatch, helper: Executor) -> None:
    """Learns samples, or adds them to the holdout."""
    rounds = known.progress.num_rounds
    sample_of = {sample.event: sample for sample in samples}
    labelled = [
        Labelled(each.text, each.label, each.subject, rounds, each.event, each.answer_time_ms) for each in samples
    ]
    holdout = [each for each, sample in zip(labelled, samples, strict=True) if sample.is_in_holdout]
    to_learn = [each for each, sample in zip(labelled, samples, strict=True) if not sample.is_in_holdout]
    known.counts["holdout"] += len(holdout)
    known.counts["learnt"] += len(to_learn)
    known.progress.learn([each.text for each in to_learn])
    if known.config.learn_names:
        to_learn = with_names(to_learn, known.fast_head.ridge.num_of, known.fast_head.served.tokenizer.reads)
    batches = [to_learn[first : first + RELEARN_BATCH] for first in range(0, len(to_learn), RELEARN_BATCH)]
    parts = [*batches, holdout] if holdout else batches
    encode = known.fast_head.vectors
    vectors = in_order(encode, parts, helper) if len(batches) >= BACKLOG else map(encode, parts)
    for encoded, z_ED in zip(batches, vectors, strict=False):
        batch, z_BD = _usable(known, encoded, z_ED)
        if batch:
            _learn_batch(known, batch, z_BD, [sample_of.get(each.event) for each in batch], drift)
    if holdout:
        served = known.fast_head.served
        holdout, z_HD = _usable(known, holdout, next(vectors))
        known.holdout.add(holdout)
        known.holdout.add_vectors(served, served.precisions[0], [each.text for each in holdout], z_HD)


def _usable(known: Knowledge, batch: list[Labelled], z_BD: Tensor) -> tuple[list[Labelled], Tensor]:
    """Returns the samples that can be learnt, with their vectors; sets the others apart: no sum would forget them."""
    # A comparison with NaN is false.
    is_usable_B = z_BD.square().sum(dim=1) <= LONGEST**2
    if is_usable_B.all():
        return batch, z_BD
    pairs = zip(batch, is_usable_B.tolist(), strict=True)
    kept = [sample for sample, is_usable in pairs if is_usable]
    known.counts["samples_set_apart"] += len(batch) - len(kept)
    log.warning("samples_set_apart", num=len(batch) - len(kept), reason="not_finite")
    return kept, z_BD[is_usable_B]


def _learn_batch(
    known: Knowledge, batch: Sequence[Labelled], z_BD: Tensor, samples: Sequence[Sample | None], drift: DriftWatch
) -> None:
    """Learns a batch that was encoded. None stands for a text that nobody labelled: the name of a class."""
    known.fast_head.admit_all(each.label for each in batch)
    nearest = known.fast_head.nearest(z_BD)
    drift.add_texts(nearest.distances_B)
    phi_BR = known.fast_head.served.features(z_BD)
    is_named_B = known.fast_head.fading.observe(phi_BR, known.fast_head.ridge.entries([each.label for each in batch]))
    known.concept_changes.add(observations(samples, nearest, is_named_B))
    known.fast_head.learn_encoded(z_BD, phi_BR, batch)
    known.replay.add(batch)
    known.fresh.add([sample for sample in batch if is_encoded(sample.text)])
    if known.round is not None:
        known.round.learn_meanwhile(batch)
