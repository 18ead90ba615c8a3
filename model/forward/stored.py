"""Converts the norms and the embedding of a stored encoder to the records that every `Forward` takes."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from kernels.attention.rotary import rotations
from kernels.encoder import EmbeddingWeights, NormWeights, RotaryWeights
from model.config import StrataConfig
from model.plan import BlockPlan, MatrixPlan, build_plan
from model.qtensor import W4G64, QTensor
from model.weights import read_in_scale, read_norm


def norm(
    tensors: Mapping[str, QTensor], name: str, config: StrataConfig, *, reader: MatrixPlan | None = None
) -> NormWeights:
    """Returns the norm `name` of a layer. If its output is the input of a matrix `reader`, it applies its in_scale."""
    return _norm(read_norm(tensors, name), tensors, config, reader)


def head_norms(
    tensors: Mapping[str, QTensor], block: BlockPlan, config: StrataConfig
) -> tuple[NormWeights, NormWeights] | None:
    """Returns the norms of a layer's queries and keys; None if it has none. They are RMSNorms in every encoder."""
    if block.q_norm is None or block.k_norm is None:
        return None
    q_norm, k_norm = (norm(tensors, path, config) for path in (block.q_norm, block.k_norm))
    return replace(q_norm, is_rms=True), replace(k_norm, is_rms=True)


def rotary(config: StrataConfig, block: BlockPlan) -> RotaryWeights | None:
    """Returns the cosines and sines by which a layer rotates queries and keys; None if it does not."""
    if block.rope_base is None:
        return None
    return RotaryWeights(*rotations(config.max_sequence, block.head_width, block.rope_base))


def embedding(
    config: StrataConfig, tensors: Mapping[str, QTensor], *, expand: Tensor | None = None
) -> EmbeddingWeights:
    """Returns the embedding. `expand` is the packed matrix that widens narrow token embeddings, if they are narrow.

    Token embeddings in INT4 stay nibbles. All texts use segment 0, so its row is added here once to every row of the
    position embedding. If queries and keys are rotated instead, there is no position embedding, and the segment's row
    is the only row.
    """
    plan = build_plan(config)
    word = tensors[plan.embedding.word]
    position_PD = tensors[plan.embedding.segment].dequantize()[:1]
    if plan.embedding.position:
        position_PD = tensors[plan.embedding.position].dequantize()[config.first_position :] + position_PD
    norm_weights: NormWeights | None = None
    if plan.embedding.norm:
        # If the first layer has a norm of its own, its matrix does not read the normalised embedding.
        first = plan.blocks[0]
        reader = first.qkv if first.is_post_norm or first.norm1 is None else None
        norm_weights = _norm(tensors[plan.embedding.norm].parts["value"], tensors, config, reader)
    return EmbeddingWeights(
        word.parts["hi"] if word.scheme == W4G64 else word.q_NK,
        word.parts["scale"].float(),
        position_PD.contiguous(),
        norm_weights,
        expand,
        word.parts["m"] if word.scheme == W4G64 else None,
    )


def _norm(
    value_2D: Tensor, tensors: Mapping[str, QTensor], config: StrataConfig, reader: MatrixPlan | None
) -> NormWeights:
    gain_D, bias_D = value_2D.unbind(0)
    in_scale_D = read_in_scale(tensors, reader) if reader else None
    is_rms = config.norm == "rms"
    return NormWeights(gain_D.contiguous(), bias_D.contiguous(), config.norm_eps, in_scale_D, is_rms)
