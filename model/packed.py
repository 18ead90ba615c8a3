"""The protocols of encoders: the interface of every encoder family, which serving and the learner use.

    EncoderFamily --open--> WholeEncoder in full precision, which is trained; Inputs, its tokenizer
                  --stored, rounded: quantize--> QTensors --pack--> PackedEncoder, which is served

A family is found by its name (`model.encoders`). The built-in family is `model.strata_family`: transformers, on our C
or on torch. Code that only needs the head of a version reads its `EncoderConfig`, and does not need the family.

Shape suffixes: T numbers of all inputs (token ids for texts), B inputs, D width.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, replace
from typing import Any, ClassVar, Protocol, Self, TypeAlias, TypeVar

from torch import Tensor, nn

from model.errors import WrongShape
from model.inputs import InputMap
from model.linears import Linear, full_precision
from model.qtensor import QTensor
from model.ragged import RaggedBatch, RaggedLayout


class EncoderConfig(Protocol):
    """The shape of an encoder and of its head: a frozen dataclass, which every manifest contains as JSON.

    - `family`: the name of the family.
    - `d_model`: the width D of a vector.
    - `vocab`: the number of token ids; 0 if the inputs are not tokens.
    - `max_sequence`: the length of the longest input.
    - `head_features`, `label_capacity`: the columns and rows of the head.
    - `shown`: the description of the encoder in messages.
    - `frozen_facts`: the properties, besides weights and inputs, on which the vectors depend; "" if there are none.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def family(self) -> str: ...
    @property
    def d_model(self) -> int: ...
    @property
    def n_layers(self) -> int: ...
    @property
    def vocab(self) -> int: ...
    @property
    def max_sequence(self) -> int: ...
    @property
    def head_features(self) -> int: ...
    @property
    def label_capacity(self) -> int: ...
    @property
    def shown(self) -> str: ...
    @property
    def frozen_facts(self) -> str: ...

    @property
    def without_labels(self) -> Self:
        """The config with `label_capacity` 1. It is equal for versions that differ at most in the rows of the head."""

    def canonical_json(self) -> str:
        """Returns the JSON of all fields, sorted, without spaces: models of one shape have the same text."""

    def spec_hash(self, inputs_digest: str) -> str:
        """Returns the hex SHA-256 over the config and the digest of the inputs.

        Two models with the same hash can exchange weights.
        """


BlockRunner: TypeAlias = Callable[[Iterable[nn.Module], Tensor, RaggedLayout, Linear], Tensor]
"""Runs the given top blocks of an encoder: returns z_BD of unit length from x_TD, the input of the first block."""


class WholeEncoder(nn.Module):
    """An encoder in full precision, as slow rounds train it: `embed`, and the blocks `layers` on top of it.

    A slow round trains at most `max_trained_layers` of the top blocks; None sets no limit beyond the settings.
    """

    config: EncoderConfig
    embed: nn.Module
    layers: nn.ModuleList
    max_trained_layers: int | None = None

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Returns z_BD of unit length for the inputs of `batch`, in the caller's order. Raises BadTokens."""
        raise NotImplementedError

    def forward_from(
        self, layer: int, x_TD: Tensor, layout: RaggedLayout, *, linear: Linear = full_precision
    ) -> Tensor:
        """Returns z_BD of unit length from x_TD, the activations at the input of block `layer`. Raises WrongShape."""
        raise NotImplementedError

    def trainable(self, first_layer: int) -> list[nn.Parameter]:
        """Makes the blocks from `first_layer` on trainable; returns their parameters."""
        raise NotImplementedError

    @property
    def run_blocks(self) -> BlockRunner | None:
        """A function that runs blocks of this encoder, or copies of them; None if they only run inside the encoder."""
        return None

    def resize_head(self, *, head_features: int, label_capacity: int) -> None:
        """Replaces the sizes of the head in the config of this encoder."""
        self.config = replace(self.config, head_features=head_features, label_capacity=label_capacity)


class PackedEncoder(Protocol):
    """An encoder with packed weights, ready to run. It is immutable, and threads may share it."""

    @property
    def config(self) -> EncoderConfig: ...

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions in which the encoder can run, the most accurate first."""

    @property
    def implementation(self) -> str:
        """The name of the implementation, for example `native`."""

    @property
    def inputs(self) -> InputMap:
        """Adds the vectors of other inputs (features, series) to the encoder's vectors."""

    @property
    def is_batch_invariant(self) -> bool:
        """Whether a vector depends only on its own input, bit for bit. If not, the learner encodes one at a time."""

    @property
    def is_one_block(self) -> bool:
        """Whether the whole encoder is one block. Then `encode_prefix` returns the inputs themselves, as x_T1."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Names that identify the activations above the embedding and above each block; () if they are unknown.

        Two encoders with the same name at a depth compute the same activations there, so they can share them.
        """

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Encodes texts: returns z_BD float32 of unit length, in the caller's order."""

    def vectors(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Encodes texts as the publisher of the encoder defines it: z_BD float32, not always of unit length."""

    def encode_prefix(self, batch: RaggedBatch, layer: int, precision: str | None = None) -> Tensor:
        """Runs the blocks below `layer`: returns the activations x_TD float32, in the layout's order."""

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout, precision: str | None = None) -> Tensor:
        """Runs the blocks from `layer` on, from what `encode_prefix` returned. Returns the same bits as `encode`."""

    def encoding(self, digests: Mapping[str, str], max_tokens: int) -> str:
        """Returns a name for the function from inputs to vectors: equal names give equal vectors, to the last bit.

        Returns "" if another process may compute other bits.
        """

    def has_same_shape(self, other: "PackedEncoder") -> bool:
        """Returns whether this encoder and `other` have the same shape, so that they take the same time."""


class Inputs(Protocol):
    """The tokenizer of an encoder: converts each text to at most `max_tokens` numbers (token ids).

    - `name`, `digest`: identify it. Versions that were made with another tokenizer are refused.
    - `probe_texts`: texts to compare versions with before any text of the stream has arrived.
    - `vocab_size`: the number of token ids; 0 if any number may occur.
    """

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def probe_texts(self) -> tuple[str, ...]: ...
    @property
    def vocab_size(self) -> int: ...

    def encode_many(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]:
        """Returns the numbers of each text. `max_tokens` replaces the limit. Raises UnreadableInput."""

    def reads(self, text: str) -> bool:
        """Returns whether `encode_many` can read the text."""


def checked(z_BD: Tensor, num: int, config: EncoderConfig) -> Tensor:
    """Checks the shape of vectors, and returns them. Raises WrongShape unless z_BD is `num` rows of the right width."""
    if z_BD.shape != (num, config.d_model):
        raise WrongShape(f"{config.shown} gives vectors {list(z_BD.shape)}; expected {[num, config.d_model]}")
    return z_BD


Tensors: TypeAlias = Mapping[str, QTensor]
"""Stored weights by name."""

TensorCache: TypeAlias = Callable[[Callable[[], Tensors]], Tensors]
"""A cache of quantized weights: returns what the function returned at an earlier start of the process, or calls it."""

C = TypeVar("C", bound=EncoderConfig)
W = TypeVar("W", bound=WholeEncoder)


class EncoderFamily(Protocol[C, W]):
    """A family of encoders: opens, quantizes and packs its encoders. `name` is the `family` in their configs.

    The value of the setting `encoder` belongs to the family that `claims` it. A value that no family claims is the name
    of a family, or the import path of a family object. All methods except `claims` may raise ModelError, whose message
    says how to correct the setting or the files.
    """

    @property
    def name(self) -> str: ...

    def claims(self, setting: str) -> bool:
        """Returns whether the value of the setting `encoder` names an encoder of this family."""

    def open(self, encoder: str, *, max_tokens: int | None) -> tuple[W, Inputs]:
        """Opens an encoder in full precision, in evaluation mode; returns it and its tokenizer.

        `max_tokens` limits the length of an input; None means the limit with which the encoder was published.
        """

    def open_inputs(self, encoder: str, *, max_tokens: int | None) -> Inputs:
        """Opens only the tokenizer of an encoder. A replica needs no more, since it loads published weights."""

    def config_from_json(self, text: str) -> C:
        """Reads the `canonical_json` of a config. Raises WrongConfig."""

    def precisions(self, config: C, schemes: Mapping[str, str]) -> tuple[str, ...]:
        """Returns the precisions in which stored weights can run, the most accurate first.

        `schemes` has the scheme of each stored weight by name.
        """

    def pack(self, config: C, tensors: Tensors, inputs: Inputs) -> PackedEncoder:
        """Packs the stored weights of a version; returns its encoder, ready to run.

        Raises MissingWeight, WrongShape or WrongConfig.
        """

    def quantize_trained(self, whole: W, *, first_layer: int | None, grams: Mapping[str, Tensor]) -> Tensors:
        """Quantizes the blocks from `first_layer` on, as training does, or all weights if it is None.

        `grams` has the Gram matrices [K, K] of matrices' inputs, by the names of the matrices. If a matrix has one, it
        is rounded so that its outputs change little for these inputs.
        """

    def quantize_initial(self, whole: W, inputs: Inputs, *, first_layer: int, kept: TensorCache) -> Tensors:
        """Quantizes all weights of an encoder that is served for the first time.

        The blocks below `first_layer` are never trained, so they may be calibrated. This is slow, and should be done
        through the cache `kept`.
        """

    def restored(self, config: C, tensors: Tensors) -> W:
        """Dequantizes the stored weights of an encoder that an operator has offered; returns it in full precision."""
