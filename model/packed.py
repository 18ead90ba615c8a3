"""What serving and the learner ask of the encoder of a version, whichever family it is of.

    QuantizedEncoder (the built-in family)      ModuleEncoder (a module of the user)      --> PackedEncoder

`Inputs` is what they ask of whatever turns texts into the numbers of a batch: `TextTokenizer`, or `ModuleInputs`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from model.features import FeatureMap
from model.module_code import EncoderConfig
from model.ragged import RaggedBatch


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
    def features(self) -> FeatureMap:
        """How the features of events become part of the vectors."""

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Returns z_BD of unit length, in the caller's order."""

    def vectors(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Returns z_BD as the encoder was published."""

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
