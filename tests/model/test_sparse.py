"""Sparse weights: their masks, bytes and grids, and encoders with them, which compute as with dense weights."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.sparse_i8.reference import dense, expand
from lifelong.compress.sparsity import attach_sparse_grids, feed_forward_matrices, most_important
from model.config import StrataConfig
from model.errors import BadBlob, ModelError, WrongShape
from model.forward import pack_forward
from model.grid import Grid, lsq_gradient, round_to, set_grids
from model.linears import linear_at
from model.qtensor import W8C, QTensor, from_blob
from model.quantize import quantize_on, round_rows
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch
from model.sparse import BCSR, MAX_SPARSE, pack_mask, sparse_weight, unpack_mask
from model.strata import Strata
from model.weights import encoder_tensors, to_strata
from tests.model.small_encoder import FAMILY, SMALL, TOKEN_IDS, small_strata, stored
from tests.model.test_qtensor import are_equal, damaged, make_entry, matrix

SHARE = 0.7


def sparse(num_groups: int = 3, num_bytes: int = 2, *, seed: int = 0) -> QTensor:
    """Makes a weight of 16 * num_groups outputs and 32 * num_bytes inputs."""
    w_NK = matrix(16 * num_groups, 32 * num_bytes, seed=seed)
    mask_GQ = most_important(w_NK, torch.ones(w_NK.shape[1]), SHARE)
    grid = Grid(BCSR, round_rows(w_NK * expand(mask_GQ), MAX_SPARSE)[1], pack_mask(mask_GQ))
    return quantize_on("layers.0.up", grid, w_NK, torch.ones(len(w_NK)), in_scale_K=torch.ones(w_NK.shape[1]))


def sparse_strata(config: StrataConfig = SMALL) -> Strata:
    strata = small_strata(config)
    masks: dict[str, Tensor] = {}
    for name in feed_forward_matrices(strata):
        layer = linear_at(strata, name)
        masks[name] = most_important(layer.weight, torch.ones(layer.in_features), SHARE)
    attach_sparse_grids(strata, masks)
    return strata


def with_zeros(tensor: QTensor) -> QTensor:
    """Returns a sparse weight as a dense INT8 weight; other weights unchanged."""
    if tensor.scheme != BCSR:
        return tensor
    parts = {name: part for name, part in tensor.parts.items() if name not in ("blocks", "mask")}
    return QTensor(tensor.name, W8C, parts | {"q": tensor.q_NK})


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1 << 30))
@settings(max_examples=50)
def test_a_mask_is_its_bits(num_groups: int, num_bytes: int, seed: int) -> None:
    mask_GQ = torch.rand(num_groups, 8 * num_bytes, generator=torch.Generator().manual_seed(seed)) < 0.5
    packed_GJ = pack_mask(mask_GQ)
    assert packed_GJ.dtype == torch.uint8
    assert packed_GJ.shape == (num_groups, num_bytes)
    assert torch.equal(unpack_mask(packed_GJ), mask_GQ)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 1 << 30))
@settings(max_examples=30)
def test_blob_round_trip(num_groups: int, num_bytes: int, seed: int) -> None:
    weight = sparse(num_groups, num_bytes, seed=seed)
    blob = weight.to_blob()
    again = from_blob(make_entry(weight, blob), blob)
    assert are_equal(again, weight)
    assert again.shape == (16 * num_groups, 32 * num_bytes)
    assert torch.equal(again.q_NK, weight.q_NK)
    kernel_weight = sparse_weight(again.parts)
    assert torch.equal(dense(kernel_weight.blocks_BNQ, kernel_weight.mask_GQ), again.q_NK)


def test_four_fifths_of_the_bytes_are_saved() -> None:
    """A matrix of MiniLM with 80 % zeros takes 21.8 % of the bytes of its INT8 form."""
    w_NK = matrix(1536, 384)
    mask_GQ = most_important(w_NK, torch.ones(384), 0.8)
    weight = quantize_on("w", Grid(BCSR, round_rows(w_NK, MAX_SPARSE)[1], pack_mask(mask_GQ)), w_NK)
    assert len(weight.to_blob()) < 0.22 * len(with_zeros(weight).to_blob())


@given(st.integers(0, len(sparse().to_blob()) - 1), st.integers(1, 255))
@settings(max_examples=200)
def test_a_changed_byte_never_makes_another_shape(position: int, change: int) -> None:
    weight = sparse()
    changed = bytearray(weight.to_blob())
    changed[position] ^= change
    try:
        accepted = from_blob(make_entry(weight, bytes(changed)), changed)
    except ModelError:
        return
    assert accepted.specs == weight.specs


WEIGHT = sparse()
BLOCKS = WEIGHT.parts["blocks"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mask": torch.full((3, 2), 255, dtype=torch.uint8)}, BadBlob, "the mask has another number"),
        ({"ksum": torch.zeros(48, dtype=torch.int32)}, BadBlob, "ksum is not the sum of q"),
        ({"mask": None}, WrongShape, "the bytes hold"),
    ],
)
def test_wrong_content_is_named(changes: dict[str, Tensor | None], error: type[ModelError], message: str) -> None:
    blob = damaged(WEIGHT, **changes)
    entry = replace(make_entry(WEIGHT, WEIGHT.to_blob()), num_bytes=len(blob))
    with pytest.raises(error, match=message):
        from_blob(entry, blob)


@pytest.mark.parametrize(
    "changes",
    [
        {"blocks": BLOCKS.transpose(1, 2).contiguous()},
        {"mask": torch.zeros(3, dtype=torch.uint8)},
        {"scale": torch.ones(32, dtype=torch.float16)},
        {"in_scale": torch.ones(32)},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes: dict[str, Tensor]) -> None:
    weight = replace(WEIGHT, parts={**WEIGHT.parts, **changes})
    blob = weight.to_blob()
    with pytest.raises(WrongShape, match=r"expected blocks \[B, 16, 4\]"):
        from_blob(make_entry(weight, blob), blob)


def test_weights_that_moved_stay_in_the_mask() -> None:
    grid = Grid.from_tensor(WEIGHT)
    moved_NK = WEIGHT.dequantize() + matrix(48, 64, seed=7)
    again = quantize_on("layers.0.up", grid, moved_NK)
    assert torch.equal(again.parts["mask"], WEIGHT.parts["mask"])
    assert torch.equal(again.q_NK, round_to(grid, moved_NK))
    assert not again.q_NK[~expand(unpack_mask(WEIGHT.parts["mask"]))].any()
    same = quantize_on("layers.0.up", grid, WEIGHT.dequantize(), torch.ones(48), in_scale_K=torch.ones(64))
    assert are_equal(same, WEIGHT)


def test_only_weights_in_the_mask_have_gradients() -> None:
    grid = Grid.from_tensor(WEIGHT)
    is_stored_NK = expand(unpack_mask(grid.m_NG))
    for w_NK in (WEIGHT.dequantize(), WEIGHT.dequantize() + 0.01 * matrix(48, 64, seed=3)):
        grad_NK, grad_N = lsq_gradient(grid, w_NK, round_to(grid, w_NK), torch.ones(48, 64))
        assert torch.equal(grad_NK != 0, is_stored_NK & (grad_NK != 0))
        assert grad_NK[is_stored_NK].count_nonzero() > 0.9 * is_stored_NK.sum()
        assert grad_N.isfinite().all()


def test_a_state_dict_holds_the_grid() -> None:
    strata = sparse_strata()
    other = small_strata()
    set_grids(other, strata.state_dict())
    other.load_state_dict(strata.state_dict())
    before, after = encoder_tensors(strata), encoder_tensors(other)
    assert all(tensor.to_blob() == before[name].to_blob() for name, tensor in after.items())
    assert after["layers.0.up"].scheme == BCSR


@pytest.mark.parametrize("config", FAMILY.values(), ids=list(FAMILY))
@given(TOKEN_IDS)
@settings(max_examples=10)
def test_a_sparse_encoder_computes_as_with_zeros(config: StrataConfig, token_ids: list[list[int]]) -> None:
    """To the bit, natively and by the reference's operations; and INT4, which these matrices do not have, is INT8."""
    tensors = encoder_tensors(sparse_strata(config))
    batch = RaggedBatch.of(token_ids)
    zeros = {name: with_zeros(tensor) for name, tensor in tensors.items()}
    for precision in ("int8", "int4"):
        z_BD = pack_forward(config, tensors, precision).encode(batch)
        assert torch.equal(z_BD, pack_forward(config, zeros, precision).encode(batch))


def test_a_sparse_encoder_keeps_its_bytes_in_full_precision_and_back() -> None:
    tensors = stored(encoder_tensors(sparse_strata()))
    again = encoder_tensors(to_strata(SMALL, tensors))
    for name, tensor in tensors.items():
        if tensor.scheme == BCSR:
            assert again[name].to_blob() == tensor.to_blob()


def test_two_versions_share_what_they_have_packed() -> None:
    tensors = stored(encoder_tensors(sparse_strata()))
    batch = RaggedBatch.of([[1, 2, 3], [4]])
    one, other = (QuantizedEncoder.from_tensors(SMALL, tensors) for _ in range(2))
    assert torch.equal(one.encode(batch), other.encode(batch))
    assert one.prefixes == other.prefixes
