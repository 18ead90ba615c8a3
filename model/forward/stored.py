"""Converts the norms and the embedding of a stored encoder to the records that every `Forward` takes."""

from collections.abc import Mapping

from torch import Tensor

from kernels.attention.rotary import rotations
from kernels.encoder import EmbeddingWeights, NormWeights, RotaryWeights
from model.config import StrataConfig
from model.plan import MatrixPlan, plan_of
from model.qtensor import W4G64, QTensor
from model.weights import read_in_scale, read_norm


def norm(
    tensors: Mapping[str, QTensor], name: str, config: StrataConfig, *, reader: MatrixPlan | None = None
) -> NormWeights:
    """Returns the norm `name` of a layer. If its output is the input of a matrix `reader`, it applies its in_scale."""
    return _norm(read_norm(tensors, name), tensors, config, reader)


def embedding(
    config: StrataConfig, tensors: Mapping[str, QTensor], *, expand: Tensor | None = None
) -> EmbeddingWeights:
    """Returns the embedding. `expand` is the packed matrix that widens narrow token embeddings, if they are narrow.

    Token embeddings in INT4 stay nibbles. All texts use segment 0, so its row is added here once to every row of the
    position embedding. If queries and keys are rotated instead, there is no position embedding, and the segment's row
    is the only row.
    """
    plan = plan_of(config)
    word = tensors[plan.embedding.word]
    position_PD = tensors[plan.embedding.segment].dequantize()[:1]
    if plan.embedding.position:
        position_PD = tensors[plan.embedding.position].dequantize()[config.first_position :] + position_PD
    rope_base = plan.blocks[0].rope_base
    rotary: RotaryWeights | None = None
    if rope_base:
        rotary = RotaryWeights(*rotations(config.max_sequence, config.width_of_head, rope_base))
    return EmbeddingWeights(
        word.parts["hi"] if word.scheme == W4G64 else word.q_NK,
        word.parts["scale"].float(),
        position_PD.contiguous(),
        _norm(tensors[plan.embedding.norm].parts["value"], tensors, config, plan.blocks[0].qkv),
        expand,
        rotary,
        word.parts["m"] if word.scheme == W4G64 else None,
    )


def _norm(
    value_2D: Tensor, tensors: Mapping[str, QTensor], config: StrataConfig, reader: MatrixPlan | None
) -> NormWeights:
    gain_D, bias_D = value_2D.unbind(0)
    in_scale_D = read_in_scale(tensors, reader) if reader else None
    return NormWeights(gain_D.contiguous(), bias_D.contiguous(), config.norm_eps, in_scale_D)
