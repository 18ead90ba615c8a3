"""Adapts contenders that are trained by gradient to texts: they train the top blocks of the encoder and a linear head.

    text --tokenizer--> a padded row of token ids --served lower blocks--> x_TD --top blocks, rounded--> z_BD --> logits

These are the blocks that the learner trains, too. A text is a row of numbers here, so all contenders for rows,
including Avalanche's, can train on texts and store them. The lower blocks run as they are served. The top blocks run
with the served rounding (fake quantization), as in the slow rounds of the learner (`learner.rounds.trainer`).

Shape suffixes: N texts, B texts of a batch, L longest text in tokens, T tokens of all texts, D width.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from evals.continual.contender import Contender, Traits, Usage
from evals.continual.frozen import FrozenEncoder
from evals.streams.benchmark import Part, Texts
from model.fakequant import fake_layer
from model.packed import Inputs
from model.quantized import INT8, QuantizedEncoder
from model.ragged import RaggedBatch
from model.strata import encode_through
from model.strata_family import built_in

PADDING = -1
PREDICT_BATCH = 64
"""The number of texts in a batch for prediction."""


class TopBlocks(nn.Module):
    """A net from rows of token ids to logits. Its parameters are a copy of the top blocks, and the head."""

    def __init__(self, encoder: FrozenEncoder, head: nn.Module, *, num_blocks: int) -> None:
        super().__init__()
        config = built_in(encoder.served.config)
        first_layer = config.n_layers - num_blocks
        self.top = copy.deepcopy(encoder.strata.layers[first_layer:])
        self.head = head
        self.pooling = config.pooling
        tensors = {name: stored.tensor for name, stored in encoder.served.tensors.items()}
        bottom = QuantizedEncoder.from_tensors(config, tensors)

        # A closure and not an attribute: a `deepcopy` of this module then shares the frozen lower blocks.
        def encode_prefix(batch: RaggedBatch) -> Tensor:
            return bottom.encode_prefix(batch, first_layer)

        self._encode_prefix = encode_prefix

    def forward(self, ids_BL: Tensor) -> Tensor:
        """Returns logits_BC."""
        batch = RaggedBatch.of(_unpadded(ids_BL))
        x_TD = self._encode_prefix(batch)
        z_BD = encode_through(self.top, x_TD, batch.layout, fake_layer, pooling=self.pooling)
        logits_BC: Tensor = self.head(z_BD)
        return logits_BC


class TokenAdapter(Contender[Texts]):
    """A contender for texts that passes their token ids to a contender for rows, which trains `TopBlocks`.

    `texts` are all texts of the benchmark: the longest text sets the width of the rows.
    """

    traits = Traits(precision=INT8, encoder="trained")

    def __init__(self, tokenizer: Inputs, inner: Contender[Tensor], texts: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        self._inner = inner
        self._width = max(map(len, tokenizer.encode_many(list(texts))))

    def learn_many(self, part: Part[Texts]) -> None:
        self._inner.learn_many(Part(self._rows(part.inputs), part.labels_N))

    def predict_many(self, inputs: Texts) -> Tensor:
        rows = torch.split(self._rows(inputs), PREDICT_BATCH)
        return torch.cat([self._inner.predict_many(ids_BL) for ids_BL in rows])

    @property
    def usage(self) -> Usage:
        return self._inner.usage

    def _rows(self, texts: Texts) -> Tensor:
        """Returns ids_NL, int32, padded to the width of the rows."""
        ids_NL = torch.full((len(texts), self._width), PADDING, dtype=torch.int32)
        for row_L, ids in zip(ids_NL, self._tokenizer.encode_many(texts), strict=True):
            row_L[: len(ids)] = torch.tensor(ids)
        return ids_NL


def _unpadded(ids_BL: Tensor) -> list[list[int]]:
    lengths_B = (ids_BL != PADDING).sum(dim=1)
    rows = zip(ids_BL.long().tolist(), lengths_B.tolist(), strict=True)
    return [ids[:length] for ids, length in rows]
