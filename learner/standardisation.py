"""Measures statistics of the values in events, such as the mean and the scale of numbers, and relearns with them.

    NEW_GROWTH times as many labels --> values in the replay buffer --InputTensors.fit--> served encoder, new states
    fast head --the samples whose vectors change are learnt again--> fast head under the new encoder

The statistics are part of an encoder, as its weights are: a version names them by digest, and the sums of the head are
only valid for the statistics with which they were made. So the statistics are measured seldom: after MIN_LABELS labels,
and again after each growth by NEW_GROWTH. If the replay buffer holds everything that was learnt, the head is learnt
again. If not, the input codec must keep the vectors of the samples that the buffer has dropped (`model.inputs`).
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog

from learner.drift import DriftWatch
from learner.encoder.served import ServedEncoder, StoredTensor, export_tensor
from learner.fast.fast_head import FastHead
from learner.samples import Labelled
from model.errors import ModelError
from model.inputs import fitted
from wire.inputs import InputCodec, ParsedContent, parse_content

if TYPE_CHECKING:
    from learner.knowledge import Knowledge

log = structlog.get_logger("learner")

MIN_LABELS: Final = 32
"""The number of labels before the first measurement."""

NEW_GROWTH: Final = 1.25
"""The growth of the number of labels from one measurement to the next."""


def standardise(known: "Knowledge", drift: DriftWatch) -> bool:
    """Measures the statistics if they are due; returns whether they changed. A change drops a round under way."""
    progress = known.progress
    is_due = progress.num_labels >= max(MIN_LABELS, NEW_GROWTH * progress.standardised_at)
    return is_due and progress.has_values and _standardise(known, drift)


def _standardise(known: "Knowledge", drift: DriftWatch) -> bool:
    progress = known.progress
    head = known.fast_head
    samples = known.replay.samples()
    said = [parse_content(sample.text) for sample in samples]
    is_complete = head.ridge.num_samples <= len(samples)
    progress.standardised_at = progress.num_labels
    try:
        measured = _measured(said, head, num_labels=progress.num_labels, is_complete=is_complete)
        if not measured:
            return False
        if known.round is not None:
            known.round.wait()
            known.drop()
        known.fast_head = _anew(head, head.served.with_states(head.served.states | measured), samples, said)
    except ModelError as error:
        # A plug-in of the user has raised it.
        log.warning("not_standardised", error=str(error))
        return False
    known.fast_head.log = head.log.encoded_again(lambda new: known.fast_head.encode(new)[1])
    if not is_complete or known.lineage.rounds:
        known.break_lineage("numbers were standardised when the memory did not hold everything, or after a round")
    known.holdout.keep(known.encoder_keys)
    known.counts["standardisations"] += 1
    progress.break_off()
    drift.reset_distances()
    log.info("standardised", states=sorted(measured), labels=progress.num_labels, complete=is_complete)
    return True


def _measured(
    said: Sequence[ParsedContent], head: FastHead, *, num_labels: int, is_complete: bool
) -> dict[str, StoredTensor]:
    """Returns the measured tensors that have changed, by name. Raises ModelError."""
    codecs: dict[str, InputCodec] = {}
    values: defaultdict[str, list[Any]] = defaultdict(list)
    for each in said:
        for codec, value in each.values:
            codecs[codec.name] = codec
            values[codec.name].append(value)
    measured: dict[str, StoredTensor] = {}
    for name, codec in sorted(codecs.items()):
        old = head.served.inputs.state_of(codec)
        tensor = fitted(codec, values[name], old, num_labels=num_labels, is_complete=is_complete)
        if tensor is not None:
            measured[tensor.name] = export_tensor(tensor)
    return measured


def _anew(
    head: FastHead, served: ServedEncoder, samples: Sequence[Labelled], said: Sequence[ParsedContent]
) -> FastHead:
    """Returns the head, learnt again under another encoder. Raises UnreadableInput."""
    empty = head.successor(served)
    if head.ridge.num_samples <= len(samples):
        empty.relearn(samples)
        return empty
    old, new = head.served.inputs, served.inputs
    affected = [sample for sample, each in zip(samples, said, strict=True) if not new.is_same(old, each)]
    rest = head.copy()
    rest.unlearn_many(affected)
    empty.restore(rest.export(), head.ridge.classes)
    empty.relearn(affected)
    return empty
