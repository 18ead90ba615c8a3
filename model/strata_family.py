"""The built-in family: encoders of `StrataConfig`, from a package, a folder or the local cache, on our C or on torch.

a folder --load_encoder--> Strata --rounded (`model.calibration`)--> QTensors --pack--> QuantizedEncoder
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from model.bert import load_encoder
from model.calibration import grams, smooth
from model.config import FAMILY, StrataConfig
from model.errors import WrongConfig
from model.grid import attach_grids
from model.packed import EncoderConfig, Inputs, PackedEncoder, TensorCache, Tensors
from model.plan import build_plan, names_at_or_above
from model.quantized import QuantizedEncoder, stored_precisions
from model.source import is_import_path
from model.strata import Strata
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors, read_in_scale, to_strata


class StrataFamily:
    """The built-in family, `strata`. It claims every value of the setting `encoder` that is no import path.

    `model.packed.EncoderFamily` documents its methods.
    """

    name = FAMILY

    def claims(self, setting: str) -> bool:
        return not is_import_path(setting)

    def open(self, encoder: str, *, max_tokens: int | None) -> tuple[Strata, Inputs]:
        return load_encoder(encoder, max_tokens=max_tokens)

    def open_inputs(self, encoder: str, *, max_tokens: int | None) -> Inputs:
        return TextTokenizer.from_encoder(encoder, max_tokens=max_tokens)

    def config_from_json(self, text: str) -> StrataConfig:
        return StrataConfig.from_json(text)

    def precisions(self, config: StrataConfig, schemes: Mapping[str, str]) -> tuple[str, ...]:
        return stored_precisions(schemes)

    def pack(self, config: StrataConfig, tensors: Tensors, inputs: Inputs) -> PackedEncoder:
        return QuantizedEncoder.from_tensors(config, tensors)

    def quantize_trained(self, whole: Strata, *, first_layer: int | None, grams: Mapping[str, Tensor]) -> Tensors:
        return encoder_tensors(whole, first_layer=first_layer, grams=grams)

    def quantize_initial(self, whole: Strata, inputs: Inputs, *, first_layer: int, kept: TensorCache) -> Tensors:
        """Quantizes all weights, and sets the input scales and grids of `whole`. Raises NonFinite.

        The blocks below `first_layer` are rounded by GPTQ for their inputs on the calibration texts. The blocks from
        `first_layer` on get grids, whose multipliers have the smallest squared error, and are rounded to these grids,
        as in training. A matrix that already has a grid is rounded to its grid.
        """
        tensors = kept(lambda: _rounded(whole, inputs, first_layer))
        # The tensors may come from the cache, without a calibration. So scales and grids are set from the tensors.
        for matrix in build_plan(whole.config).banks:
            in_scale_K = read_in_scale(tensors, matrix)
            if in_scale_K is not None:
                whole.get_buffer(f"{matrix.name}.in_scale").copy_(in_scale_K)
        attach_grids(whole, {name: tensors[name] for name in names_at_or_above(tensors, first_layer)})
        return tensors

    def restored(self, config: StrataConfig, tensors: Tensors) -> Strata:
        return to_strata(config, tensors)


STRATA: Final = StrataFamily()


def built_in(config: EncoderConfig) -> StrataConfig:
    """Checks that a config belongs to the built-in family, and returns it. Raises WrongConfig for another family."""
    if not isinstance(config, StrataConfig):
        raise WrongConfig(f"this is only for encoders of the built-in family, not for {config.shown}")
    return config


def _rounded(strata: Strata, inputs: Inputs, first_layer: int) -> Tensors:
    """Calibrates and quantizes the encoder: by GPTQ below `first_layer`, and from there on to the nearest integers."""
    smoothed = smooth(strata, grams(strata, inputs))
    for name in names_at_or_above(smoothed, first_layer):
        del smoothed[name]
    return encoder_tensors(strata, grams=smoothed)
