"""Converts the float parts of stored weights to the records that every forward takes."""

from collections.abc import Mapping

from kernels.encoder import EmbeddingWeights, NormWeights
from model.config import StrataConfig
from model.qtensor import QTensor


def norm(tensor: QTensor, config: StrataConfig, *, reader: QTensor | None = None) -> NormWeights:
    """Returns the norm, which is stored as gain over bias. `reader` is the matrix that reads its output."""
    gain_D, bias_D = tensor.parts["value"].unbind(0)
    in_scale_D = None if reader is None else reader.in_scale
    return NormWeights(gain_D.contiguous(), bias_D.contiguous(), config.norm_eps, in_scale_D)


def embedding(config: StrataConfig, tensors: Mapping[str, QTensor]) -> EmbeddingWeights:
    """Returns the embedding, with the positions that texts use.

    Texts have one segment, so its row is added to every position once, here.
    """
    word = tensors["embed.word"]
    reader = tensors.get("layers.0.qkv")
    position_PD = (
        tensors["embed.position"].dequantize()[config.first_position :] + tensors["embed.type"].dequantize()[0]
    )
    return EmbeddingWeights(
        word.q_NK,
        word.parts["scale"].float(),
        position_PD.contiguous(),
        norm(tensors["embed.norm"], config, reader=reader),
    )
