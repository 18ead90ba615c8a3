"""Finds the family of an encoder by the setting `encoder` or by a version's config, and calls it.

    minilm-l6, a folder, a cached id --strata--> Strata, TextTokenizer --> QuantizedEncoder
    module:Class                     --module--> a torch module of the user (`lifelong.plugins.encoders`)
    another name or import path      --> the family of that name, or at that path

All other code works with encoders of any family (`model.packed`). Other packages and the settings can add families. A
family is refused at the start if it lacks a member of the protocol, or has the name of another family.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from model.errors import ModelError, WrongConfig
from model.packed import EncoderConfig, EncoderFamily, Inputs, PackedEncoder, Tensors, WholeEncoder
from wire.plugins import Families, PluginError, check_members, list_members

FAMILIES: Final = Families[EncoderFamily[Any, Any]]("encoders", EncoderFamily)
"""The families of encoders: the built-in ones, and those of plug-ins."""

INPUTS_MEMBERS: Final = list_members(Inputs)
PACKED_MEMBERS: Final = list_members(PackedEncoder)


def open_encoder(encoder: str, *, max_tokens: int | None = None) -> tuple[WholeEncoder, Inputs]:
    """Opens the encoder that a setting names; returns it in full precision, in evaluation mode, and its tokenizer.

    `max_tokens` limits the length of an input; None means the limit with which the encoder was published. Raises
    EncoderNotFound, WrongConfig, MissingWeight, WrongShape or BadBlob.
    """
    with _wrap_errors(encoder):
        whole: WholeEncoder
        whole, inputs = FAMILIES.claiming(encoder).open(encoder, max_tokens=max_tokens)
        check_members(inputs, INPUTS_MEMBERS, "its tokenizer")
        return whole, inputs


def open_inputs(encoder: str, *, max_tokens: int | None = None) -> Inputs:
    """Opens only the tokenizer (`Inputs`) of an encoder, without reading its weights. Raises like `open_encoder`."""
    with _wrap_errors(encoder):
        inputs = FAMILIES.claiming(encoder).open_inputs(encoder, max_tokens=max_tokens)
        check_members(inputs, INPUTS_MEMBERS, "its tokenizer")
        return inputs


def find_family(config: EncoderConfig) -> EncoderFamily[Any, Any]:
    """Returns the family that the config of an encoder names. Raises PluginError if there is none."""
    return FAMILIES.of_record(config.family)


def packed(config: EncoderConfig, tensors: Tensors, inputs: Inputs) -> PackedEncoder:
    """Packs the stored weights of a version; returns its encoder, ready to run.

    Raises MissingWeight, WrongShape or WrongConfig.
    """
    encoder = find_family(config).pack(config, tensors, inputs)
    try:
        check_members(encoder, PACKED_MEMBERS, f"a version of {config.shown}")
    except PluginError as error:
        raise WrongConfig(str(error)) from error
    return encoder


def runnable_precisions(config: EncoderConfig, schemes: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the precisions in which stored weights can run, the most accurate first.

    `schemes` has the scheme of each stored weight by name.
    """
    return find_family(config).precisions(config, schemes)


def config_from_json(text: str) -> EncoderConfig:
    """Reads the `canonical_json` of a config of any family. Raises WrongConfig."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongConfig(f"not JSON: {error}") from error
    name = values.get("family") if isinstance(values, dict) else None
    if not isinstance(name, str):
        raise WrongConfig(f"the config names no family of encoders: {text:.80}")
    try:
        family = FAMILIES.of_record(name)
    except PluginError as error:
        raise WrongConfig(f"the config is of a family that the setting `encoder` does not name: {error}") from error
    config: EncoderConfig = family.config_from_json(text)
    return config


@contextmanager
def _wrap_errors(encoder: str) -> Iterator[None]:
    """Raises WrongConfig, which names the encoder, for any error of a plug-in; other errors pass unchanged."""
    try:
        yield
    except (ModelError, OSError, MemoryError):
        raise
    except PluginError as error:
        raise WrongConfig(f"encoder {encoder!r}: {error}") from error
    # The family may be a plug-in, which can raise any exception.
    except Exception as error:
        raise WrongConfig(f"encoder {encoder!r} cannot be opened: {type(error).__name__}: {error}") from error
