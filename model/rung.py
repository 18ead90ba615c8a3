"""The family `rung`: an encoder with one more precision, `static`, in which a table of token vectors answers.

    a folder: config.json, main/ (the encoder), table/ (a static encoder in its space) --open--> WholeRung
    token ids --the encoder, in its own precisions----------> z_BD --+
              --static: sums of rows (`model.static`), in µs--> z_BD --+--> one head

The table imitates the vectors of the encoder itself (`lifelong.compress.static`, `keeps_space`), so the head of the
encoder reads them. It is the lowest rung of a replica's brown-out: a replica measures the time of each precision, and
the learner the accuracy of each version in it, as for INT4. If the table loses more than a brown-out may, it never
answers.

Slow rounds train the encoder, and leave the table as it is.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from model.config import StaticConfig, config_values
from model.encoders import config_from_json, find_family, open_encoder, open_inputs, packed
from model.errors import WrongConfig
from model.linears import Linear, full_precision
from model.packed import BlockRunner, EncoderConfig, Inputs, PackedEncoder, TensorCache, Tensors, WholeEncoder
from model.ragged import RaggedBatch, RaggedLayout
from model.source import family_in
from model.static import STATIC, WholeStatic

FAMILY: Final = "rung"

STATIC_PRECISION: Final = "static"
"""The precision in which the table answers."""

MAIN: Final = "main"
TABLE: Final = "table"
"""The folders with the encoder and with the table, and their fields in the config."""

PREFIX: Final = "rung."
"""The beginning of the names of the table's weights."""


@dataclass(frozen=True, kw_only=True)
class RungConfig:
    """The shape of an encoder and its table. `main` and `table` are the `canonical_json` of their own configs."""

    family: str = FAMILY
    schema: int = 1
    main: str
    table: str
    head_features: int = 2_048
    label_capacity: int = 256

    def __post_init__(self) -> None:
        if (self.family, self.schema) != (FAMILY, 1):
            raise WrongConfig(f"schema {self.schema} of family {self.family!r}; this code reads schema 1 of {FAMILY!r}")
        widths = self.of_main.d_model, self.of_table.d_model
        if widths[0] != widths[1]:
            raise WrongConfig(f"the table is {widths[1]} wide; expected {widths[0]}, the width of its encoder")

    @cached_property
    def of_main(self) -> EncoderConfig:
        return config_from_json(self.main)

    @cached_property
    def of_table(self) -> StaticConfig:
        return STATIC.config_from_json(self.table)

    @property
    def d_model(self) -> int:
        return self.of_main.d_model

    @property
    def n_layers(self) -> int:
        return self.of_main.n_layers

    @property
    def vocab(self) -> int:
        return self.of_main.vocab

    @property
    def max_sequence(self) -> int:
        return self.of_main.max_sequence

    @property
    def shown(self) -> str:
        return f"{self.of_main.shown}, and {self.of_table.shown} as its lowest rung"

    @property
    def frozen_facts(self) -> str:
        return self.of_main.frozen_facts

    @property
    def without_labels(self) -> "RungConfig":
        return dataclasses.replace(self, label_capacity=1)

    def canonical_json(self) -> str:
        parts = {name: json.loads(getattr(self, name)) for name in (MAIN, TABLE)}
        return json.dumps(dataclasses.asdict(self) | parts, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "RungConfig":
        """Reads `canonical_json` back. Raises WrongConfig."""
        values = config_values(cls, text)
        parts = {name: config_from_json(json.dumps(values[name])).canonical_json() for name in (MAIN, TABLE)}
        return cls(**values | parts)

    def spec_hash(self, inputs_digest: str) -> str:
        return hashlib.sha256(f"{self.canonical_json()}\n{inputs_digest}".encode()).hexdigest()


class _Below(nn.Module):
    """The parts that are never trained: the encoder's embedding, and the table."""

    def __init__(self, main: nn.Module, table: WholeStatic) -> None:
        super().__init__()
        self.main = main
        self.table = table


class WholeRung(WholeEncoder):
    """The encoder in full precision, with its table. Only the encoder is trained."""

    config: RungConfig
    embed: _Below

    def __init__(self, config: RungConfig, main: WholeEncoder, table: WholeStatic) -> None:
        super().__init__()
        self.config = config
        self.embed = _Below(main.embed, table.requires_grad_(False))
        self.layers = main.layers
        self.max_trained_layers = main.max_trained_layers
        # In a tuple, so that torch does not register the encoder's modules a second time.
        self._main = (main,)

    @property
    def main(self) -> WholeEncoder:
        """The encoder without its table. Both have the same modules."""
        return self._main[0]

    def forward(self, batch: RaggedBatch) -> Tensor:
        z_BD: Tensor = self.main(batch)
        return z_BD

    def forward_from(
        self, layer: int, x_TD: Tensor, layout: RaggedLayout, *, linear: Linear = full_precision
    ) -> Tensor:
        return self.main.forward_from(layer, x_TD, layout, linear=linear)

    def trainable(self, first_layer: int) -> list[nn.Parameter]:
        return self.main.trainable(first_layer)

    @property
    def run_blocks(self) -> BlockRunner | None:
        return self.main.run_blocks


class PackedRung:
    """The encoder as it is served. Immutable; threads may share it."""

    def __init__(self, config: RungConfig, main: PackedEncoder, table: PackedEncoder) -> None:
        self.config = config
        self.precisions = (*main.precisions, STATIC_PRECISION)
        self.implementation = main.implementation
        self.inputs = main.inputs
        self.is_batch_invariant = main.is_batch_invariant
        self.is_one_block = main.is_one_block
        self.prefixes = main.prefixes
        self._main = main
        self._table = table

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        if precision == STATIC_PRECISION:
            return self._table.encode(batch)
        return self._main.encode(batch, precision)

    def vectors(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        return self._table.vectors(batch) if precision == STATIC_PRECISION else self._main.vectors(batch, precision)

    def encode_prefix(self, batch: RaggedBatch, layer: int, precision: str | None = None) -> Tensor:
        if precision == STATIC_PRECISION:
            return self._table.encode_prefix(batch, 0)
        return self._main.encode_prefix(batch, layer, precision)

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout, precision: str | None = None) -> Tensor:
        if precision == STATIC_PRECISION:
            return self._table.encode_from(0, x_TD, layout)
        return self._main.encode_from(layer, x_TD, layout, precision)

    def encoding(self, digests: Mapping[str, str], max_tokens: int) -> str:
        """Returns the name of the encoder without a table: in the best precision, their vectors are equal."""
        return self._main.encoding(_of_main(digests), max_tokens)

    def has_same_shape(self, other: PackedEncoder) -> bool:
        return self.config.without_labels == other.config.without_labels


class RungFamily:
    """The family `rung`. It claims folders whose config.json names it. `EncoderFamily` documents its methods."""

    name = FAMILY

    def claims(self, setting: str) -> bool:
        return family_in(setting) == FAMILY

    def open(self, encoder: str, *, max_tokens: int | None) -> tuple[WholeRung, Inputs]:
        folder = Path(encoder).expanduser()
        main, inputs = open_encoder(str(folder / MAIN), max_tokens=max_tokens)
        table, table_inputs = STATIC.open(str(folder / TABLE), max_tokens=None)
        if table_inputs.digest != inputs.digest:
            raise WrongConfig(f"{folder / TABLE} has another tokenizer than {folder / MAIN}")
        return WholeRung(rung_config(main.config, table.config), main, table).eval(), inputs

    def open_inputs(self, encoder: str, *, max_tokens: int | None) -> Inputs:
        return open_inputs(str(Path(encoder).expanduser() / MAIN), max_tokens=max_tokens)

    def config_from_json(self, text: str) -> RungConfig:
        return RungConfig.from_json(text)

    def precisions(self, config: RungConfig, schemes: Mapping[str, str]) -> tuple[str, ...]:
        return (*find_family(config.of_main).precisions(config.of_main, _of_main(schemes)), STATIC_PRECISION)

    def pack(self, config: RungConfig, tensors: Tensors, inputs: Inputs) -> PackedEncoder:
        table = STATIC.pack(config.of_table, _of_table(tensors), inputs)
        return PackedRung(config, packed(config.of_main, _of_main(tensors), inputs), table)

    def quantize_trained(self, whole: WholeRung, *, first_layer: int | None, grams: Mapping[str, Tensor]) -> Tensors:
        main = find_family(whole.main.config).quantize_trained(whole.main, first_layer=first_layer, grams=grams)
        return {**main, **(_table_tensors(whole) if first_layer is None else {})}

    def quantize_initial(self, whole: WholeRung, inputs: Inputs, *, first_layer: int, kept: TensorCache) -> Tensors:
        main = find_family(whole.main.config).quantize_initial(whole.main, inputs, first_layer=first_layer, kept=kept)
        return {**main, **_table_tensors(whole)}

    def restored(self, config: RungConfig, tensors: Tensors) -> WholeRung:
        main = find_family(config.of_main).restored(config.of_main, _of_main(tensors))
        table = STATIC.restored(config.of_table, _of_table(tensors))
        return WholeRung(config, main, table).eval()


RUNG: Final = RungFamily()


def rung_config(main: EncoderConfig, table: EncoderConfig) -> RungConfig:
    """Returns the config of an encoder with a table. Raises WrongConfig if their widths differ."""
    return RungConfig(main=main.canonical_json(), table=table.canonical_json())


@torch.no_grad()
def _table_tensors(whole: WholeRung) -> Tensors:
    stored = STATIC.quantize_trained(whole.embed.table, first_layer=None, grams={})
    return {f"{PREFIX}{name}": dataclasses.replace(tensor, name=f"{PREFIX}{name}") for name, tensor in stored.items()}


def _of_main(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of the encoder's weights, by their names."""
    return {name: value for name, value in values.items() if not name.startswith(PREFIX)}


def _of_table(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of the table's weights, by their names in the family `static`."""
    return {name.removeprefix(PREFIX): value for name, value in values.items() if name.startswith(PREFIX)}
