"""Measures mean and scale of the numbers in events, and puts what is known on new ones.

    labels doubled since the last time --> samples of the memory --> FeatureMap --> served encoder with other scales
    fast head --memory learnt anew, or what has new numbers taken out and learnt again--> fast head under these

Scales are of one encoder, as its weights are: a version names them by digest, and all sums are under the same ones. So
they are measured seldom: after MIN_LABELS labels, and whenever there are twice as many, while the memory holds
everything that was learnt, as then everything can be learnt again. Where it does not, a number keeps its scale, and
only those without one get theirs, now and then: what the memory has dropped was learnt as if they had their mean.
"""

from typing import TYPE_CHECKING, Final

import structlog

from learner.drift import DriftWatch
from learner.fast.fast_head import FastHead
from learner.samples import Labelled
from model.features import FeatureMap, scales_of
from wire.features import Features, parts_of

if TYPE_CHECKING:
    from learner.knowledge import Knowledge

log = structlog.get_logger("learner")

MIN_LABELS: Final = 32
"""The number of labels after which scales are measured first."""

GROWTH: Final = 2.0
"""The factor from one measurement of all scales to the next."""

NEW_GROWTH: Final = 1.25
"""The same for numbers that have no scale yet."""


def standardise(known: "Knowledge", drift: DriftWatch) -> bool:
    """Measures the scales that are due; False where none has changed. The round under way is dropped where one has."""
    progress = known.progress
    is_due = progress.num_labels >= max(MIN_LABELS, NEW_GROWTH * progress.standardised_at)
    return is_due and progress.has_features and _standardise(known, drift)


def _standardise(known: "Knowledge", drift: DriftWatch) -> bool:
    progress = known.progress
    head = known.fast_head
    samples = known.replay.samples()
    features = [parts_of(sample.text)[1] for sample in samples]
    is_complete = head.ridge.num_samples <= len(samples)
    old = head.served.feature_map
    measured = scales_of(features)
    progress.standardised_at = progress.num_labels
    is_full = is_complete and progress.num_labels >= GROWTH * old.num_labels
    scales = measured if is_full else measured | old.scales
    if scales == old.scales or not scales:
        return False
    if known.round is not None:
        known.round.wait()
        known.drop()
    num_labels = progress.num_labels if is_full else old.num_labels
    following = FeatureMap(head.served.config.d_model, scales, num_labels=num_labels)
    served = head.served.with_features(following)
    if is_complete:
        anew = head.successor(served)
        anew.relearn(samples)
        known.fast_head = anew
    else:
        affected = _with_new_numbers(samples, features, following, old)
        known.fast_head = _relearnt(head, affected, head.successor(served))
    known.fast_head.log = head.log.encoded_again(lambda new: known.fast_head.encode(new)[1])
    if not is_complete or known.lineage.rounds:
        known.break_lineage("numbers were standardised when the memory did not hold everything, or after a round")
    known.holdout.keep(known.encoder_keys)
    known.counts["standardisations"] += 1
    progress.break_off()
    drift.reset_distances()
    log.info("standardised", numbers=len(scales), labels=progress.num_labels, anew=is_full)
    return True


def _with_new_numbers(
    samples: list[Labelled], features: list[Features], following: FeatureMap, old: FeatureMap
) -> list[Labelled]:
    new = following.scales.keys() - old.scales.keys()
    return [sample for sample, values in zip(samples, features, strict=True) if not new.isdisjoint(values)]


def _relearnt(head: FastHead, samples: list[Labelled], empty: FastHead) -> FastHead:
    """Returns the sums of `head` under the encoder of `empty`, with `samples` as they are under that."""
    rest = head.copy()
    rest.unlearn_many(samples)
    empty.restore(rest.export(), head.ridge.classes)
    empty.relearn(samples)
    return empty
