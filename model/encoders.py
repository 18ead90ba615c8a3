"""Finds the family of an encoder, and asks it: of the one that the settings name, or of that of a version.

    minilm-l6, a folder, a cached id --strata--> Strata, TextTokenizer --> QuantizedEncoder
    module:Class                     --module--> a torch module of the user (`lifelong.plugins.encoders`)
    another name or import path      --> the family of that name, or at that path

Everything beyond takes any of them (`model.packed`): batches, heads, swaps, sums and rounds are the same code. A family
that another package or the settings add is refused at the start if it lacks a member, or has the name of another one.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from model.errors import ModelError, WrongConfig
from model.packed import EncoderConfig, EncoderFamily, Inputs, PackedEncoder, Tensors, WholeEncoder
from wire.plugins import Families, PluginError, check_members, members_of

FAMILIES: Final = Families[EncoderFamily[Any, Any]]("encoders", EncoderFamily)
"""The families of encoders."""

OF_INPUTS: Final = members_of(Inputs)
OF_PACKED: Final = members_of(PackedEncoder)


def open_encoder(encoder: str, *, max_tokens: int | None = None) -> tuple[WholeEncoder, Inputs]:
    """Returns the encoder in full precision, in evaluation mode, and what reads texts for it.

    Raises EncoderNotFound, WrongConfig, MissingWeight, WrongShape or BadBlob.
    """
    with _naming(encoder):
        whole: WholeEncoder
        whole, inputs = FAMILIES.claiming(encoder).open(encoder, max_tokens=max_tokens)
        check_members(inputs, OF_INPUTS, "what reads texts for it")
        return whole, inputs


def open_inputs(encoder: str, *, max_tokens: int | None = None) -> Inputs:
    """Returns what reads texts for an encoder. Raises as `open_encoder`."""
    with _naming(encoder):
        inputs = FAMILIES.claiming(encoder).open_inputs(encoder, max_tokens=max_tokens)
        check_members(inputs, OF_INPUTS, "what reads texts for it")
        return inputs


def family_of(config: EncoderConfig) -> EncoderFamily[Any, Any]:
    """Returns the family of an encoder."""
    return FAMILIES.of_record(config.family)


def packed(config: EncoderConfig, tensors: Tensors, inputs: Inputs) -> PackedEncoder:
    """Returns the encoder of a version, ready to run. Raises MissingWeight, WrongShape or WrongConfig."""
    encoder = family_of(config).pack(config, tensors, inputs)
    try:
        check_members(encoder, OF_PACKED, f"a version of {config.shown}")
    except PluginError as error:
        raise WrongConfig(str(error)) from error
    return encoder


def precisions_in(config: EncoderConfig, schemes: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the precisions in which stored weights can run, from the scheme of each, by name."""
    return family_of(config).precisions(config, schemes)


def config_from_json(text: str) -> EncoderConfig:
    """Reads the config of a version, whichever family it is of. Raises WrongConfig."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongConfig(f"not JSON: {error}") from error
    name = values.get("family") if isinstance(values, dict) else None
    if not isinstance(name, str):
        raise WrongConfig(f"it is {text:.80}, which names no family of encoders")
    try:
        family = FAMILIES.of_record(name)
    except PluginError as error:
        raise WrongConfig(f"it is of a family that `encoder` does not name here: {error}") from error
    config: EncoderConfig = family.config_from_json(text)
    return config


@contextmanager
def _naming(encoder: str) -> Iterator[None]:
    """Names the encoder whose family raises something: it may be another's."""
    try:
        yield
    except (ModelError, OSError, MemoryError):
        raise
    except PluginError as error:
        raise WrongConfig(f"encoder {encoder!r}: {error}") from error
    except Exception as error:
        raise WrongConfig(f"encoder {encoder!r} cannot be opened: {type(error).__name__}: {error}") from error
