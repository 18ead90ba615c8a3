"""The float parts of stored weights, as every `Forward` takes them."""

import pytest
import torch

from model.calibration import to_int4
from model.forward import pack_forward
from model.forward.stored import embedding, norm, rotary
from model.plan import build_plan
from model.qtensor import W4G64, W8C, QTensor
from model.quantized import INT4
from model.ragged import RaggedBatch
from model.weights import encoder_tensors, read_norm
from tests.model.small_encoder import FAMILY, SMALL, small_strata

TENSORS = encoder_tensors(small_strata())
BLOCK = build_plan(SMALL).blocks[0]


def test_a_norm_scales_its_output_for_the_matrix_that_reads_it() -> None:
    assert BLOCK.norm1 is not None
    for reader in (None, BLOCK.up):
        made = norm(TENSORS, BLOCK.norm1, SMALL, reader=reader)
        assert torch.equal(torch.stack((made.gain_D, made.bias_D)), read_norm(TENSORS, BLOCK.norm1))
        assert made.eps == SMALL.norm_eps
    assert made.in_scale_D is TENSORS[BLOCK.vectors].parts["up.in_scale"]
    assert norm(TENSORS, BLOCK.norm1, SMALL).in_scale_D is None


def test_every_position_has_the_one_segment_in_it() -> None:
    made = embedding(SMALL, TENSORS)
    position_PD = TENSORS["embed.position"].dequantize()
    assert torch.equal(made.position_PD, position_PD + TENSORS["embed.type"].dequantize()[0])
    assert made.word_VE.dtype == torch.int8
    assert len(made.scale_V) == SMALL.vocab
    assert made.norm is not None and made.norm.in_scale_D is TENSORS["layers.0.vectors"].parts["qkv.in_scale"]
    assert rotary(SMALL, BLOCK) is None


def test_with_rotations_all_positions_have_one_row() -> None:
    config = FAMILY["rope"]
    made = embedding(config, encoder_tensors(small_strata(config)))
    assert made.position_PD.shape == (1, config.d_model)
    made_rotary = rotary(config, build_plan(config).blocks[0])
    assert made_rotary is not None
    assert made_rotary.cos_PC.shape == (config.max_pos, config.width_of_head // 2)


@pytest.mark.parametrize("implementation", ["native", "library"])
def test_words_in_int4_stay_nibbles_and_give_the_same_bits(implementation: str) -> None:
    tensors = encoder_tensors(to_int4(small_strata()))
    word = tensors["embed.word"]
    assert word.scheme == W4G64
    made = embedding(SMALL, tensors)
    assert made.word_VE is word.parts["hi"] and made.word_VE.nbytes == SMALL.vocab * SMALL.d_model // 2
    assert made.multiplier_VG is word.parts["m"]
    in_bytes = QTensor(word.name, W8C, {"q": word.q_NK, "scale": word.parts["scale"], "ksum": word.parts["ksum"]})
    batch = RaggedBatch.of([[5, 6, 7], [1], [9, 8]])
    packed, expanded = (
        pack_forward(SMALL, tensors | {word.name: each}, INT4, force=implementation).encode(batch)
        for each in (word, in_bytes)
    )
    assert torch.equal(packed, expanded)
