"""The door `Encoder`: what serving and the learner ask of encoders, whichever family they are of.

    EncoderFamily --open--> WholeEncoder, as it is trained, and Inputs, which read texts for it
                  --stored, rounded--> QTensors --pack--> PackedEncoder, as it is served

A family is looked up by its name (`model.encoders`). The built-in one is `model.strata_family`: transformers, on our C
or on torch. Whoever needs the head of a version alone reads its `EncoderConfig`, and need not know the family.

Shape suffixes: T numbers of all inputs, B inputs, D width.
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
    """The shape of an encoder and of its head: a frozen dataclass, which each manifest holds as JSON.

    `family` is the name of its family. `vocab` is the number of tokens that it knows, 0 if its inputs are no tokens,
    and `max_sequence` the length of its longest input. `shown` is how messages name it, and `frozen_facts` are what
    the vectors depend on besides the weights.
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
        """The shape of everything but the rows of the head: equal for versions that can share all else."""

    def canonical_json(self) -> str:
        """Returns the JSON of all fields, sorted, without spaces: the same text for models of one shape."""

    def spec_hash(self, inputs_digest: str) -> str:
        """Returns the hex SHA-256 over config and inputs: it is equal if weights are interchangeable."""


Through: TypeAlias = Callable[[Iterable[nn.Module], Tensor, RaggedLayout, Linear], Tensor]
"""Returns z_BD of unit length from the activations at the input of the first of these blocks, which are the last."""


class WholeEncoder(nn.Module):
    """An encoder in full precision, as slow rounds train it: `embed`, and the blocks `layers` on top of it.

    A slow round trains at most `max_trained_layers` of the top blocks (None: as many as the settings say).
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
        """Returns z_BD of unit length from the activations at the input of block `layer`. Raises WrongShape."""
        raise NotImplementedError

    def trainable(self, first_layer: int) -> list[nn.Parameter]:
        """Returns the parameters of the blocks from `first_layer` on, which are trained from now on."""
        raise NotImplementedError

    @property
    def through(self) -> Through | None:
        """Makes vectors through blocks that are taken out of it, or copied; None if that cannot be."""
        return None

    def resize_head(self, *, head_features: int, label_capacity: int) -> None:
        """Gives the config a head of these sizes."""
        self.config = replace(self.config, head_features=head_features, label_capacity=label_capacity)


class PackedEncoder(Protocol):
    """An encoder with its weights, ready to run. Immutable; threads may share it."""

    @property
    def config(self) -> EncoderConfig: ...

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those in which it can run, the most accurate first."""

    @property
    def implementation(self) -> str:
        """The name of what computes it."""

    @property
    def inputs(self) -> InputMap:
        """What is added to the vectors that it makes."""

    @property
    def is_batch_invariant(self) -> bool:
        """Whether a vector depends on its own input alone, bit for bit. If not, the learner encodes one at a time."""

    @property
    def is_one_block(self) -> bool:
        """Whether all of it is one block, and what lies below that are the numbers of the inputs."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The names of what its embedding and each further block give; () if others can share none of it."""

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Returns z_BD of unit length, in the caller's order."""

    def vectors(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Returns z_BD as the encoder was published."""

    def encode_prefix(self, batch: RaggedBatch, layer: int, precision: str | None = None) -> Tensor:
        """Returns x_TD at the input of block `layer`, in the layout's order."""

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout, precision: str | None = None) -> Tensor:
        """Returns the bits of `encode`, from what `encode_prefix` gives."""

    def encoding(self, digests: Mapping[str, str], max_tokens: int) -> str:
        """Names how inputs become vectors, to the last bit; "" where another process may compute otherwise."""

    def has_shape_of(self, other: "PackedEncoder") -> bool:
        """Whether versions of both take the same time."""


class Inputs(Protocol):
    """Turns the texts of events into numbers, each into at most `max_tokens`.

    `name` and `digest` tell it from others: versions that were made for another one are refused. A version is compared
    on `probe_texts` before any text of the stream was seen. `vocab_size` is 0 where any number may come.
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
        """Returns the numbers of each text. Raises UnreadableInput."""

    def reads(self, text: str) -> bool:
        """Whether a text can be read."""


def checked(z_BD: Tensor, num: int, config: EncoderConfig) -> Tensor:
    """Returns vectors that an encoder has made of `num` inputs. Raises WrongShape for another number, or width."""
    if z_BD.shape != (num, config.d_model):
        raise WrongShape(f"{config.shown} gives vectors {list(z_BD.shape)}; expected {[num, config.d_model]}")
    return z_BD


Tensors: TypeAlias = Mapping[str, QTensor]
"""Stored weights by name."""

Kept: TypeAlias = Callable[[Callable[[], Tensors]], Tensors]
"""Returns what the same call returned at an earlier start, or calls it."""

C = TypeVar("C", bound=EncoderConfig)
W = TypeVar("W", bound=WholeEncoder)


class EncoderFamily(Protocol[C, W]):
    """A family of encoders. `name` is the `family` in the config of its versions.

    What the setting `encoder` says is of the family that `claims` it. One that no family claims is the name of a
    family, or the import path of the object. All but `claims` raise ModelError, which says what to mend.
    """

    @property
    def name(self) -> str: ...

    def claims(self, setting: str) -> bool:
        """Whether the setting `encoder` says an encoder of this family."""

    def open(self, encoder: str, *, max_tokens: int | None) -> tuple[W, Inputs]:
        """Returns the encoder in full precision, in evaluation mode, and what reads texts for it."""

    def open_inputs(self, encoder: str, *, max_tokens: int | None) -> Inputs:
        """Returns what reads texts for an encoder: all that a replica needs."""

    def config_from_json(self, text: str) -> C:
        """Reads the `canonical_json` of a config. Raises WrongConfig."""

    def precisions(self, config: C, schemes: Mapping[str, str]) -> tuple[str, ...]:
        """Returns the precisions in which stored weights can run, the best first, from the scheme of each, by name."""

    def pack(self, config: C, tensors: Tensors, inputs: Inputs) -> PackedEncoder:
        """Returns the encoder of a version, ready to run. Raises MissingWeight, WrongShape or WrongConfig."""

    def stored(self, whole: W, *, first_layer: int | None, grams: Mapping[str, Tensor]) -> Tensors:
        """Returns the weights of the blocks from `first_layer` on as they are stored, or all of them for None.

        `grams` are the Gram matrices of the inputs of some matrices, by name, which these are rounded for.
        """

    def rounded(self, whole: W, inputs: Inputs, *, first_layer: int, kept: Kept) -> Tensors:
        """Returns all weights as they are stored, of an encoder that is served for the first time.

        The blocks below `first_layer` are never trained. What takes long is made through `kept`.
        """

    def restored(self, config: C, tensors: Tensors) -> W:
        """Returns the encoder in full precision that stored weights stand for: one that was handed over."""
