"""Counts the bytes of a delta: what a round of the learner changes in the tensors that it publishes.

labelled texts --Training: steps on the top blocks--> tensors before and after --exclusive or, zlib--> bytes

It is done twice: on the grids that the learner trains on, whose multipliers stay and whose scales move slowly, and with
every matrix rounded anew to the range of its largest values. A delta is not how versions are sent today, which is by
whole tensors; it says how much of them a round has changed.
"""

import copy
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from evals.streams.stream import StreamItem
from learner.config import LearnerConfig
from learner.encoder.served import StoredTensor, export_encoder
from learner.encoder.top import with_own_top
from learner.fast.fast_head import FastHead
from learner.learner import Learner
from learner.rounds.plan import RoundPlan, StepPlan
from learner.rounds.training import PseudoLabels, Training
from learner.samples import Labelled
from model.grid import grid_of
from model.strata import Strata
from model.tokenizer import TextTokenizer


def delta_bytes(before: Mapping[str, StoredTensor], after: Mapping[str, StoredTensor]) -> int:
    """Returns the bytes of the compressed differences of all tensors of `after`."""
    total = 0
    for name, stored in after.items():
        old, new = (np.frombuffer(each.tensor.to_blob(), dtype=np.uint8) for each in (before[name], stored))
        total += len(zlib.compress((old ^ new).tobytes(), level=9))
    return total


def deltas_of_a_round(
    strata: Strata, tokenizer: TextTokenizer, items: Sequence[StreamItem], config: LearnerConfig
) -> tuple[int, int]:
    """Returns the bytes of the delta on grids, and without them. A step takes `config.slow_batch` of the items."""
    known = Learner(config, copy.deepcopy(strata), tokenizer).knowledge
    assert isinstance(known.strata, Strata), "it was opened as one"
    first_layer = strata.config.n_layers - config.trainable_layers
    plain = with_own_top(known.strata, first_layer)
    for module in plain.layers[first_layer:].modules():
        if grid_of(module) is not None:
            del module.grid
    samples = [Labelled(item.text, item.label) for item in items]
    known.fast_head.admit_all(sample.label for sample in samples)
    known.fast_head.learn_many(samples)
    starts = range(0, len(samples), config.slow_batch)
    steps = [StepPlan(fresh=samples[start : start + config.slow_batch], draws=[]) for start in starts]
    plan = RoundPlan(number=1, steps=steps)
    on_grids, without = (_delta(each, known.fast_head, plan, config) for each in (known.strata, plain))
    return on_grids, without


def _delta(strata: Strata, fast_head: FastHead, plan: RoundPlan, config: LearnerConfig) -> int:
    means_CD = fast_head.means(plan.labels)
    no_texts = PseudoLabels((), means_CD, unit=1)
    training = Training(plan, means_CD, no_texts, fast_head.served, strata, config=config)
    for step in plan.steps:
        training.step(step)
    before, after = (export_encoder(each, first_layer=training.first_layer) for each in (strata, training.strata))
    return delta_bytes(before, after)
