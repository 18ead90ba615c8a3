"""Counts the bytes of a delta: what a round of the learner changes in the tensors that it publishes.

labelled texts --Trainer: steps on the top blocks--> tensors before and after --exclusive or, zlib--> bytes

It is done twice: on the grids that the learner trains on, whose multipliers stay and whose scales move slowly, and with
every matrix rounded anew to the range of its largest values. A delta is not how versions are sent today, which is by
whole tensors; it says how much of them a round has changed.
"""

import copy
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from evals.streams.stream import StreamItem
from learner.config import LearnerConfig
from learner.export import ServedEncoder, StoredTensor, export_encoder
from learner.learner import Learner
from learner.slow.trainer import Trainer, with_own_top
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
    first_layer = strata.config.n_layers - config.trainable_layers
    plain = with_own_top(known.strata, first_layer)
    for module in plain.layers[first_layer:].modules():
        if grid_of(module) is not None:
            del module.grid
    served = known.fast_head.served
    on_grids, without = (_delta(each, served, items, config) for each in (known.strata, plain))
    return on_grids, without


def _delta(strata: Strata, served: ServedEncoder, items: Sequence[StreamItem], config: LearnerConfig) -> int:
    first_layer = strata.config.n_layers - config.trainable_layers
    trained = with_own_top(strata, first_layer)
    rows = {label: row for row, label in enumerate(sorted({item.label for item in items}))}
    rows_N = torch.tensor([rows[item.label] for item in items])
    starts = range(0, len(items), config.slow_batch)
    means_CD = _class_means(served.z_many([item.text for item in items]), rows_N)
    trainer = Trainer(trained, means_CD, parent=strata, num_steps=len(starts), config=config)
    for start in starts:
        texts = [item.text for item in items[start : start + config.slow_batch]]
        x_TD, layout = served.prefix(texts, first_layer)
        trainer.step(x_TD, layout, rows_N[start : start + len(texts)], [len(texts)])
    before, after = (export_encoder(each, first_layer=first_layer) for each in (strata, trained))
    return delta_bytes(before, after)


def _class_means(z_ND: Tensor, rows_N: Tensor) -> Tensor:
    counts_C = torch.bincount(rows_N)
    sums_CD = torch.zeros(len(counts_C), z_ND.shape[1]).index_add_(0, rows_N, z_ND)
    return sums_CD / counts_C[:, None]
