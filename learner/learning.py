"""Learns samples in batches, while a helper thread encodes the next batches.

    stream --withdrawn labels, corrections, concept changes--> `learner.unlearning`
           --samples whose class has a row in the head, or gets one--> samples
    samples --in the holdout--> holdout, with their vectors
            --others, and the names of new classes before them--> batches --encoded in both threads--> z
    z --nearest class means--> drift, concept changes
      --> fast head, replay buffer, fresh

The size of the batches changes no result: a vector does not depend on the rest of its batch, and the sums are exact.
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
from wire.kinds import find_kind
from wire.records import ConceptChange

LONGEST: Final = 2.0
"""Vectors longer than this are not learnt. Encoders make unit vectors, so a longer vector is the result of an overflow.
"""

log = structlog.get_logger("learner")

BACKLOG: Final = 3
"""The fewest batches that are shared with the helper thread. Its priority is lower, and the next version has to wait
for it, so a few batches are faster without it."""


def learn_many(known: Knowledge, samples: Sequence[Learnable], drift: DriftWatch, helper: Executor = INLINE) -> None:
    """Learns samples, or adds them to the holdout. If the class of a sample gets no row, the sample is only counted.

    `samples` is in the order of the stream, and includes concept changes and withdrawn labels. `helper` encodes in
    another thread.
    """
    for are_withdrawn, group in groupby(samples, lambda item: isinstance(item, Sample) and item.is_withdrawn):
        if are_withdrawn:
            unlearning.withdraw(known, cast("Iterable[Sample]", group))
        else:
            _learn_in_order(known, group, drift, helper)


def _learn_in_order(known: Knowledge, samples: Iterable[Learnable], drift: DriftWatch, helper: Executor) -> None:
    """Learns samples, corrections and concept changes, each at its place in the stream."""
    admitted = list[Sample]()
    for item in samples:
        if isinstance(item, ConceptChange) or item.is_correction:
            # The item may remove some of the samples before it, so these are learnt first.
            _learn(known, admitted, drift, helper)
            admitted = []
        if isinstance(item, ConceptChange):
            unlearning.restart(known, item)
            continue
        sample = unlearning.correct(known, item) if item.is_correction else item
        if sample is None or not find_kind(sample.label).is_exclusive:
            admitted += [known.classes.admit_set(sample)] if sample else []
            continue
        if known.concept_changes.is_outdated(sample.label, sample.answer_time_ms):
            known.counts["outdated"] += 1
            continue
        known.classes.count_label(sample.label)
        weaker = known.classes.evictable_for(sample)
        if weaker:
            # The choice of the class that makes room depends on the samples before this one.
            _learn(known, admitted, drift, helper)
            admitted = []
        if known.classes.has_row_for(sample) or unlearning.make_room(known, sample.label, weaker):
            admitted.append(sample)
        else:
            known.counts["over_capacity"] += 1
    _learn(known, admitted, drift, helper)


def _learn(known: Knowledge, samples: Sequence[Sample], drift: DriftWatch, helper: Executor) -> None:
    """Learns samples whose classes have rows, or adds them to the holdout."""
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
        to_learn = with_names(to_learn, known.fast_head.ridge.count_samples, known.fast_head.served.tokenizer.reads)
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
    """Returns the samples whose vectors are finite and not too long, and these vectors; counts and drops the others."""
    # Comparisons with NaN are false, so NaN is not usable.
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
    """Learns a batch of encoded samples. None in `samples` stands for the name of a class, which nobody labelled."""
    known.fast_head.admit_all(each.label for each in batch)
    nearest = known.fast_head.nearest(z_BD)
    drift.add_texts(nearest.distances_B)
    phi_BR = known.fast_head.served.features(z_BD)
    entries = known.fast_head.ridge.entries([each.label for each in batch])
    is_right_B = known.fast_head.recency.update_losses(phi_BR, entries)
    known.concept_changes.add(observations(samples, nearest, is_right_B))
    known.fast_head.learn_encoded(z_BD, phi_BR, batch)
    known.replay.add(batch)
    known.fresh.add([sample for sample in batch if is_encoded(sample.text)])
    if known.round is not None:
        known.round.learn_meanwhile(batch)
