"""Opens the encoder that the settings name, and packs that of a version: the built-in family, or a module of the user.

    minilm-l6, a folder, a cached id --> Strata, TextTokenizer --> QuantizedEncoder
    module:Class                     --> WholeModule, ModuleInputs --> ModuleEncoder

Everything beyond takes either (`model.packed`): batches, heads, swaps, sums and rounds are the same code.
"""

from collections.abc import Mapping
from typing import TypeAlias

from model.bert import load_encoder
from model.errors import WrongConfig
from model.module_code import EncoderConfig, ModuleConfig, import_encoder
from model.module_encoder import ModuleEncoder, ModuleInputs, WholeModule
from model.packed import Inputs, PackedEncoder
from model.qtensor import QTensor
from model.quantized import QuantizedEncoder, precisions_of
from model.source import is_import_path
from model.strata import Strata
from model.tokenizer import TextTokenizer

WholeEncoder: TypeAlias = Strata | WholeModule
"""An encoder in full precision, as the learner trains it."""


def open_encoder(encoder: str, *, max_tokens: int | None = None) -> tuple[WholeEncoder, Inputs]:
    """Returns the encoder in full precision, in evaluation mode, and what reads texts for it.

    Raises EncoderNotFound, WrongConfig, MissingWeight, WrongShape or BadBlob.
    """
    if not is_import_path(encoder):
        return load_encoder(encoder, max_tokens=max_tokens)
    inputs = _module_inputs(encoder, max_tokens)
    return WholeModule(inputs.code).eval(), inputs


def open_inputs(encoder: str, *, max_tokens: int | None = None) -> Inputs:
    """Returns what reads texts for an encoder. Raises as `open_encoder`."""
    if not is_import_path(encoder):
        return TextTokenizer.from_encoder(encoder, max_tokens=max_tokens)
    return _module_inputs(encoder, max_tokens)


def packed(config: EncoderConfig, tensors: Mapping[str, QTensor], inputs: Inputs) -> PackedEncoder:
    """Returns the encoder of a version, ready to run. Raises MissingWeight, WrongShape or WrongConfig."""
    if not isinstance(config, ModuleConfig):
        return QuantizedEncoder.from_tensors(config, tensors)
    if not isinstance(inputs, ModuleInputs) or inputs.code.config.source != config.source:
        raise WrongConfig(f"it was made by {config.shown}; `encoder` names {inputs.name} here")
    return ModuleEncoder.from_tensors(config, tensors, inputs.code)


def precisions_in(config: EncoderConfig, schemes: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the precisions in which stored weights can run, from the scheme of each, by name."""
    return config.precisions if isinstance(config, ModuleConfig) else precisions_of(schemes)


def _module_inputs(encoder: str, max_tokens: int | None) -> ModuleInputs:
    inputs = ModuleInputs(import_encoder(encoder))
    if max_tokens not in (None, inputs.max_tokens):
        raise WrongConfig(
            f"serving.max_tokens is {max_tokens}, but {encoder} reads up to {inputs.max_tokens} numbers of an input, "
            "and cuts none: leave serving.max_tokens out"
        )
    return inputs
