"""The float parts of stored weights, as every forward takes them."""

import torch

from model.forward.stored import embedding, norm
from model.weights import encoder_tensors
from tests.model.small_encoder import SMALL, small_strata

TENSORS = encoder_tensors(small_strata())


def test_a_norm_scales_its_output_for_the_matrix_that_reads_it() -> None:
    stored = TENSORS["embed.norm"]
    reader = TENSORS["layers.0.qkv"]
    for with_reader in (None, reader):
        made = norm(stored, SMALL, reader=with_reader)
        assert torch.equal(torch.stack((made.gain_D, made.bias_D)), stored.parts["value"])
        assert made.eps == SMALL.norm_eps
    in_scale_D = norm(stored, SMALL, reader=reader).in_scale_D
    assert in_scale_D is reader.in_scale
    assert in_scale_D is not None
    assert norm(stored, SMALL).in_scale_D is None


def test_every_position_has_the_one_segment_in_it() -> None:
    made = embedding(SMALL, TENSORS)
    position_PD = TENSORS["embed.position"].dequantize()
    assert torch.equal(made.position_PD, position_PD + TENSORS["embed.type"].dequantize()[0])
    assert made.word_VE.dtype == torch.int8
    assert len(made.scale_V) == SMALL.vocab
