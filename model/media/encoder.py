"""The encoder of pictures, sounds and texts: embeddings of tokens, below a trunk that is a built-in encoder.

    token ids --words: rows of a table; parts: linear in the code--> x_TD --Strata, or QuantizedEncoder--> z_BD

A token of a part is embedded by x = W_p v + b_p + m: v are the values of its code, p is its place, and m is the vector
of its modality (the segment embedding of the trunk). As there are 16 levels, the served form looks up the product for
each number of the code, and adds the rows in order. So the bits of x depend on the token alone, on every machine.
The trunk is the built-in family's: its matrices are INT8, and its native kernels run it.

Parts of an event are one sequence, so each token attends to the tokens of all parts; a missing part has no tokens.

Shape suffixes: T tokens of all events, B events, D width, P places with place 0, C numbers of a code, L levels.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Final, TypeAlias, cast

import torch
from torch import Tensor, nn

from model.config import StrataConfig, config_values
from model.errors import BadTokens, WrongConfig
from model.linears import Linear, full_precision
from model.media.tokens import (
    CODE,
    LEVELS,
    MODALITIES,
    VOCAB,
    Modality,
    level_values,
    token_codes,
    token_modalities,
    token_places,
)
from model.packed import BlockRunner, PackedEncoder, Tensors, WholeEncoder
from model.qtensor import FP32, QTensor
from model.quantize import plain
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Embedding, Strata, encode_through, without_storage
from model.weights import check_weight

FAMILY: Final = "media"


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaConfig:
    """The shape of an encoder of pictures, sounds and texts. `words` are the rows of the embedding of words."""

    family: str = FAMILY
    schema: int = 1
    words: int = 2_048
    d_model: int = 192
    n_layers: int = 4
    n_heads: int = 6
    d_ff: int = 768
    max_sequence: int = 128
    head_features: int = 2_048
    label_capacity: int = 256

    def __post_init__(self) -> None:
        if (self.family, self.schema) != (FAMILY, 1):
            raise WrongConfig(f"schema {self.schema} of family {self.family!r}; this code reads schema 1 of {FAMILY!r}")
        # The trunk's config checks the sizes.
        _ = self.trunk

    @property
    def vocab(self) -> int:
        return VOCAB

    @property
    def trunk(self) -> StrataConfig:
        """The config of the trunk. Its segments are the modalities."""
        return StrataConfig(
            vocab=self.words,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            d_ff=self.d_ff,
            max_pos=self.max_sequence,
            type_vocab=1 + len(MODALITIES),
            head_features=self.head_features,
            label_capacity=self.label_capacity,
        )

    @property
    def shown(self) -> str:
        return f"{self.n_layers} layers of {self.d_model} for pictures, sounds and texts"

    @property
    def frozen_facts(self) -> str:
        return ""

    @property
    def without_labels(self) -> "MediaConfig":
        return replace(self, label_capacity=1)

    def canonical_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "MediaConfig":
        """Reads `canonical_json` back. Raises WrongConfig."""
        return cls(**config_values(cls, text))

    def spec_hash(self, inputs_digest: str) -> str:
        return sha256(f"{self.canonical_json()}\n{inputs_digest}".encode()).hexdigest()


class PartEmbedding(nn.Module):
    """Embeds the tokens of one modality: x = W_p v + b_p. Place 0, the bottleneck token, has only b_0."""

    def __init__(self, modality: Modality, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(modality.places, CODE, width))
        self.bias = nn.Parameter(torch.zeros(1 + modality.places, width))
        # Orthogonal rows: the mean over the places keeps the codes of all places apart.
        nn.init.orthogonal_(self.weight.data.view(-1, width))
        self.weight.data *= (3 * width / CODE) ** 0.5
        nn.init.normal_(self.bias[:1])

    def forward(self, values_BPC: Tensor) -> Tensor:
        """Returns x [B, 1 + P, D] of whole parts."""
        x_BPD = torch.einsum("bpc,pcd->bpd", values_BPC, self.weight)
        return nn.functional.pad(x_BPD, (0, 0, 1, 0)) + self.bias


@torch.no_grad()
def part_table(weight_PCD: Tensor, bias_QD: Tensor) -> Tensor:
    """Returns the rows that are added for each place, number and level of a code: float32 [1 + P, C, L, D]."""
    values_L = level_values(torch.arange(LEVELS))
    rows = weight_PCD[:, :, None, :] * values_L[:, None]
    table = torch.cat([torch.zeros(1, *rows.shape[1:]), rows])
    table[:, 0] += bias_QD[:, None]
    return table


class MediaEmbedding(nn.Module):
    """The embeddings of words and of parts. `words` is the embedding of the trunk, which has the modalities, too."""

    def __init__(self, config: MediaConfig, words: nn.Module) -> None:
        super().__init__()
        self.words = words
        self.num_words = config.words
        self.parts = nn.ModuleDict({name: PartEmbedding(each, config.d_model) for name, each in MODALITIES.items()})

    @property
    def segments(self) -> Tensor:
        """The vectors of the modalities, [1 + modalities, D]; row 0 is that of texts."""
        weight: Tensor = self.words.get_submodule("segment").weight  # type: ignore[assignment]
        return weight

    def tables(self) -> "PartTables":
        """Returns the served form of the embeddings of parts."""
        found: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            assert isinstance(part, PartEmbedding), "the embeddings of parts are the only modules there"
            found[name] = part_table(part.weight, part.bias + self.segments[MODALITIES[name].number])
        return PartTables(found, self.num_words)

    def part(self, name: str, values_BPC: Tensor) -> Tensor:
        """Returns x [B, 1 + P, D] of whole parts of one modality, as it is trained."""
        x_BPD: Tensor = self.parts[name](values_BPC)
        return x_BPD + self.segments[MODALITIES[name].number]

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Returns x_TD of any tokens. Parts have no gradient here. Raises BadTokens."""
        return self.tables().embedded(batch, self.words)


Words: TypeAlias = Callable[[RaggedBatch], Tensor]
"""Embeds a batch of words: returns x_TD."""


class PartTables:
    """Embeds the tokens of parts by tables float32 [1 + P, C, L, D], which are immutable."""

    def __init__(self, tables: Mapping[str, Tensor], num_words: int) -> None:
        self._num_words = num_words
        self._tables = {MODALITIES[name].number: table for name, table in tables.items()}

    def only_words(self, batch: RaggedBatch) -> RaggedBatch:
        """Returns the batch with ids of words, and 0 in place of the tokens of parts."""
        ids_T = torch.where(token_modalities(batch.ids_T) == 0, batch.ids_T % self._num_words, 0)
        return RaggedBatch(ids_T, batch.layout)

    def embedded(self, batch: RaggedBatch, words: Words) -> Tensor:
        """Returns x_TD. Raises BadTokens."""
        x_TD = words(self.only_words(batch))
        numbers_T = token_modalities(batch.ids_T)
        for number in {*numbers_T.tolist()}:
            if number:
                rows = (numbers_T == number).nonzero()[:, 0]
                x_TD = x_TD.index_copy(0, rows, self._rows(number, batch.ids_T[rows]))
        return x_TD

    def _rows(self, number: int, ids_T: Tensor) -> Tensor:
        """Returns the embeddings of tokens of one modality."""
        table = self._tables.get(number)
        places_T = token_places(ids_T)
        if table is None or int(places_T.max()) >= len(table):
            raise BadTokens(f"a token has modality {number} and place {int(places_T.max())}, which is unknown")
        codes_TC = token_codes(ids_T)
        # One addition after another, so that the order, and with it the rounding, is fixed.
        x_TD = table[places_T, 0, codes_TC[:, 0]]
        for place in range(1, CODE):
            x_TD = x_TD + table[places_T, place, codes_TC[:, place]]
        return x_TD


class WholeMedia(WholeEncoder):
    """The encoder in full precision. Slow rounds train the top blocks of the trunk; stems and embeddings are frozen."""

    config: MediaConfig
    embed: MediaEmbedding

    def __init__(self, config: MediaConfig, trunk: Strata | None = None) -> None:
        super().__init__()
        self.config = config
        trunk = trunk or Strata(config.trunk)
        self.embed = MediaEmbedding(config, trunk.embed)
        self.layers = trunk.layers

    @property
    def trunk(self) -> Strata:
        """The trunk, whose modules are those of this encoder."""
        trunk = without_storage(self.config.trunk)
        trunk.embed = cast("Embedding", self.embed.words)
        trunk.layers = self.layers
        return trunk

    def forward(self, batch: RaggedBatch) -> Tensor:
        return self.forward_from(0, self.embed(batch), batch.layout)

    def forward_from(
        self, layer: int, x_TD: Tensor, layout: RaggedLayout, *, linear: Linear = full_precision
    ) -> Tensor:
        return encode_through(list(self.layers)[layer:], x_TD, layout, linear, pooling="mean")

    def trainable(self, first_layer: int) -> list[nn.Parameter]:
        return list(self.layers[first_layer:].requires_grad_().parameters())

    @property
    def run_blocks(self) -> BlockRunner:
        return partial(encode_through, pooling="mean")


def part_names(name: str) -> tuple[str, str]:
    """Returns the names of the stored weight and bias of a modality's embedding."""
    return f"embed.{name}.weight", f"embed.{name}.bias"


@torch.no_grad()
def part_tensors(whole: WholeMedia) -> dict[str, QTensor]:
    """Returns the stored embeddings of parts, in float32. The vector of the modality is part of the bias."""
    found = dict[str, QTensor]()
    for name, part in whole.embed.parts.items():
        weight_name, bias_name = part_names(name)
        assert isinstance(part, PartEmbedding), "the embeddings of parts are the only modules there"
        found[weight_name] = plain(weight_name, part.weight)
        found[bias_name] = plain(bias_name, part.bias + whole.embed.segments[MODALITIES[name].number])
    return found


def stored_part(config: MediaConfig, tensors: Tensors, modality: Modality) -> tuple[Tensor, Tensor]:
    """Returns the stored weight [P, C, D] and bias [1 + P, D] of a modality. Raises MissingWeight or WrongShape."""
    weight_name, bias_name = part_names(modality.name)
    width = config.d_model
    weight = check_weight(tensors, weight_name, FP32, (modality.places, CODE, width))
    bias = check_weight(tensors, bias_name, FP32, (1 + modality.places, width))
    return weight.dequantize(), bias.dequantize()


class PackedMedia:
    """The encoder as it is served. Immutable; threads may share it."""

    is_batch_invariant = True
    is_one_block = False
    prefixes = ()
    """Encoders share no lower blocks: the names of the trunk's activations do not cover the embeddings of parts."""

    def __init__(self, config: MediaConfig, trunk: QuantizedEncoder, tables: PartTables) -> None:
        self.config = config
        self.precisions = trunk.precisions
        self.inputs = trunk.inputs
        self._trunk = trunk
        self._tables = tables

    @classmethod
    def from_tensors(cls, config: MediaConfig, tensors: Tensors) -> "PackedMedia":
        """Packs the stored weights. Raises MissingWeight or WrongShape, naming the weight."""
        tables = {name: part_table(*stored_part(config, tensors, each)) for name, each in MODALITIES.items()}
        trunk = QuantizedEncoder.from_tensors(config.trunk, tensors)
        return cls(config, trunk, PartTables(tables, config.words))

    @property
    def implementation(self) -> str:
        return self._trunk.implementation

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        if not token_modalities(batch.ids_T).any():
            return self._trunk.encode(self._tables.only_words(batch), precision)
        return self._trunk.encode_from(0, self._embedded(batch, precision), batch.layout, precision)

    vectors = encode

    def encode_prefix(self, batch: RaggedBatch, layer: int, precision: str | None = None) -> Tensor:
        return self._trunk.prefix_from(self._embedded(batch, precision), batch.layout, layer, precision)

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout, precision: str | None = None) -> Tensor:
        return self._trunk.encode_from(layer, x_TD, layout, precision)

    def encoding(self, digests: Mapping[str, str], max_tokens: int) -> str:
        found = self._trunk.encoding(digests, max_tokens)
        return (
            sha256(f"{found} {self.config.without_labels.canonical_json()}".encode()).hexdigest()[:32] if found else ""
        )

    def has_same_shape(self, other: PackedEncoder) -> bool:
        return self.config.without_labels == other.config.without_labels

    @torch.no_grad()
    def _embedded(self, batch: RaggedBatch, precision: str | None) -> Tensor:
        longest = batch.offsets[-1] - batch.offsets[-2]
        if longest > self.config.max_sequence:
            raise BadTokens(f"an event has {longest} tokens; expected at most {self.config.max_sequence}")
        return self._tables.embedded(batch, lambda words: self._trunk.encode_prefix(words, 0, precision))
