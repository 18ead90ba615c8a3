"""The float parts of stored weights, as every forward takes them."""

import torch

from model.forward.stored import embedding, norm
from model.plan import plan_of
from model.vectors import norm_of
from model.weights import encoder_tensors
from tests.model.small_encoder import FAMILY, SMALL, small_strata

TENSORS = encoder_tensors(small_strata())
BLOCK = plan_of(SMALL).blocks[0]


def test_a_norm_scales_its_output_for_the_matrix_that_reads_it() -> None:
    for reader in (None, BLOCK.up):
        made = norm(TENSORS, BLOCK.norm1, SMALL, reader=reader)
        assert torch.equal(torch.stack((made.gain_D, made.bias_D)), norm_of(TENSORS, BLOCK.norm1))
        assert made.eps == SMALL.norm_eps
    assert made.in_scale_D is TENSORS[BLOCK.vectors].parts["up.in_scale"]
    assert norm(TENSORS, BLOCK.norm1, SMALL).in_scale_D is None


def test_every_position_has_the_one_segment_in_it() -> None:
    made = embedding(SMALL, TENSORS)
    position_PD = TENSORS["embed.position"].dequantize()
    assert torch.equal(made.position_PD, position_PD + TENSORS["embed.type"].dequantize()[0])
    assert made.word_VE.dtype == torch.int8
    assert len(made.scale_V) == SMALL.vocab
    assert made.norm.in_scale_D is TENSORS["layers.0.vectors"].parts["qkv.in_scale"]
    assert made.rotary is None


def test_with_rotations_all_positions_have_one_row() -> None:
    config = FAMILY["rope"]
    made = embedding(config, encoder_tensors(small_strata(config)))
    assert made.position_PD.shape == (1, config.d_model)
    assert made.rotary is not None
    assert made.rotary.cos_PC.shape == (config.max_pos, config.width_of_head // 2)
