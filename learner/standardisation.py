"""Standardisation: measures statistics of the values in events, such as mean and scale of numbers, and learns again.

    number of labels grew by NEW_GROWTH --> values in the replay buffer --InputTensors.fit--> served encoder, new states
    fast head --the samples whose vectors change are learnt again--> fast head under the new encoder

The statistics are part of an encoder, like its weights: a manifest lists them by digest, and the sums of the head are
only valid for the statistics with which they were made. So the statistics are measured seldom: after MIN_LABELS labels,
and again whenever the number of labels has grown by the factor NEW_GROWTH. If the replay buffer still has everything
that was learnt, the whole head is learnt again. If not, the input codec must not change the vectors of the samples that
the buffer has dropped (`model.inputs`).
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
"""The number of labels at which the statistics are measured for the first time."""

NEW_GROWTH: Final = 1.25
"""The factor by which the number of labels grows from one measurement to the next."""


def standardise(known: "Knowledge", drift: DriftWatch) -> bool:
    """Measures the statistics if that is due; returns whether they have changed. A change drops a round under way."""
    progress = known.progress
    is_due = progress.num_labels >= max(MIN_LABELS, NEW_GROWTH * progress.standardised_at)
    return is_due and progress.has_values and _standardise(known, drift)


def _standardise(known: "Knowledge", drift: DriftWatch) -> bool:
    progress = known.progress
    head = known.fast_head
    samples = known.replay.samples()
    contents = [parse_content(sample.text) for sample in samples]
    is_complete = head.ridge.num_samples <= len(samples)
    progress.standardised_at = progress.num_labels
    try:
        measured = _measured(contents, head, num_labels=progress.num_labels, is_complete=is_complete)
        if not measured:
            return False
        if known.round is not None:
            known.round.wait()
            known.drop()
        new_served = head.served.with_states(head.served.states | measured)
        known.fast_head = _learnt_again(head, new_served, samples, contents)
    except ModelError as error:
        # A user's plug-in has failed.
        log.warning("inputs_not_standardised", error=str(error))
        return False
    known.fast_head.log = head.log.encoded_again(lambda new: known.fast_head.encode(new)[1])
    if not is_complete or known.lineage.rounds:
        known.break_lineage("numbers were standardised after samples were dropped, or after a round")
    known.holdout.keep(known.encoder_keys)
    known.counts["standardisations"] += 1
    progress.break_off()
    drift.reset_distances()
    log.info("standardised", states=sorted(measured), labels=progress.num_labels, complete=is_complete)
    return True


def _measured(
    contents: Sequence[ParsedContent], head: FastHead, *, num_labels: int, is_complete: bool
) -> dict[str, StoredTensor]:
    """Measures the statistics; returns those tensors that have changed, by name. Raises ModelError."""
    codecs: dict[str, InputCodec] = {}
    values: defaultdict[str, list[Any]] = defaultdict(list)
    for content in contents:
        for codec, value in content.values:
            codecs[codec.name] = codec
            values[codec.name].append(value)
    measured: dict[str, StoredTensor] = {}
    for name, codec in sorted(codecs.items()):
        old = head.served.inputs.state_of(codec)
        tensor = fitted(codec, values[name], old, num_labels=num_labels, is_complete=is_complete)
        if tensor is not None:
            measured[tensor.name] = export_tensor(tensor)
    return measured


def _learnt_again(
    head: FastHead, served: ServedEncoder, samples: Sequence[Labelled], contents: Sequence[ParsedContent]
) -> FastHead:
    """Returns the head under the encoder `served`, which has other statistics. Raises UnreadableInput.

    `samples` are the samples of the replay buffer, `contents` their parsed contents. If the buffer has dropped samples,
    only the samples whose vectors change are learnt again.
    """
    new_head = head.successor(served)
    if head.ridge.num_samples <= len(samples):
        new_head.relearn(samples)
        return new_head
    old_inputs = head.served.inputs
    affected = [
        sample
        for sample, content in zip(samples, contents, strict=True)
        if not served.inputs.is_same(old_inputs, content)
    ]
    unaffected = head.copy()
    unaffected.unlearn_many(affected)
    new_head.restore(unaffected.export(), head.ridge.classes)
    new_head.relearn(affected)
    return new_head
