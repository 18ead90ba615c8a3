"""The INT8 linear layer in Triton: rows and sums bit by bit, results within the rounding of two multiply-adds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import linear_i8
from kernels.linear_i8 import reference
from kernels.linear_i8.reference import Int8Weight
from tests.kernels import tolerances

EXACT_COLUMNS = 512
"""A sum of so many products of 255 and -128 is exact in float32."""

SIZES = {"num_rows": st.integers(1, 70), "num_out": st.integers(1, 70), "seed": st.integers(0, 1 << 30)}


def on(device: torch.device, *tensors: Tensor) -> list[Tensor]:
    return [tensor.to(device) for tensor in tensors]


def layer(num_out: int, num_in: int, seed: int, device: torch.device) -> Int8Weight:
    generator = torch.Generator().manual_seed(seed)
    q_NK = torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8, generator=generator)
    scale_N = torch.rand(num_out, generator=generator) * 0.01
    return Int8Weight.of(*on(device, q_NK, scale_N, torch.randn(num_out, generator=generator)))


def rows(num_rows: int, num_in: int, seed: int) -> Tensor:
    return torch.randn(num_rows, num_in, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def bytes_as_rows(num_rows: int, num_in: int, seed: int) -> Tensor:
    """Returns rows of whole numbers from 0 to 255, both present: they quantize to themselves, scale 1 and min 0."""
    generator = torch.Generator().manual_seed(seed)
    x_MK = torch.randint(0, 256, (num_rows, num_in), generator=generator).float()
    x_MK[:, 0] = 0.0
    x_MK[:, -1] = 255.0
    return x_MK


def assert_rounded_alike(y_MN: Tensor, x_MK: Tensor, weight: Int8Weight) -> None:
    """Asserts that y equals the reference, except that either multiply-add may round once (fused) or twice.

    That is decided by the compiler, or by the version of Triton's interpreter. The bound is that of both.
    """
    weight = Int8Weight.of(*on(torch.device("cpu"), weight.q_NK, weight.scale_N, weight.bias_N))
    tolerances.assert_within(y_MN.cpu(), reference.linear(x_MK, weight).double(), tolerances.epilogue(x_MK, weight))


@given(st.integers(1, 9), st.integers(1, 300), st.floats(1e-6, 1e6), st.integers(0, 1 << 30))
@settings(max_examples=60)
def test_rows_are_quantized_bit_by_bit(gpu: torch.device, num_rows: int, num_in: int, size: float, seed: int) -> None:
    from kernels.linear_i8.gpu import quantize_rows

    x_MK = rows(num_rows, num_in, seed) * size
    s_MK, scale_M, min_M = (result.cpu() for result in quantize_rows(x_MK.to(gpu)))
    q_MK, scale_M1, min_M1 = reference.quantize_rows(x_MK)
    assert torch.equal(s_MK.int() + 128, q_MK.int())
    assert torch.equal(scale_M, scale_M1[:, 0])
    assert torch.equal(min_M, min_M1[:, 0])


def test_halves_go_to_the_even_neighbour(gpu: torch.device) -> None:
    from kernels.linear_i8.gpu import quantize_rows

    halves_1K = torch.arange(0, 511).unsqueeze(0) / 2  # 0, 0.5, 1, ... 255
    s_1K, _, _ = quantize_rows(halves_1K.to(gpu))
    assert torch.equal(s_1K.cpu().int() + 128, halves_1K.round().int())


@given(num_in=st.integers(2, 200), **SIZES)
@settings(max_examples=15)
def test_sums_are_exact(gpu: torch.device, num_rows: int, num_out: int, num_in: int, seed: int) -> None:
    from kernels.linear_i8.gpu import pack

    q_NK = layer(num_out, num_in, seed, torch.device("cpu")).q_NK
    x_MK = bytes_as_rows(num_rows, num_in, seed)
    run = pack(Int8Weight.of(*on(gpu, q_NK, torch.ones(num_out), torch.zeros(num_out))))
    assert torch.equal(run(x_MK.to(gpu)).cpu(), reference.accumulate(x_MK, q_NK).float())


@pytest.mark.parametrize("value", [-128, 127])
def test_extreme_sums_are_exact(gpu: torch.device, value: int) -> None:
    from kernels.linear_i8.gpu import pack

    q_NK = torch.full((5, EXACT_COLUMNS), value, dtype=torch.int8)
    x_MK = torch.full((20, EXACT_COLUMNS), 255.0)
    x_MK[:, 0] = 0.0
    y_MN = pack(Int8Weight.of(*on(gpu, q_NK, torch.ones(5), torch.zeros(5))))(x_MK.to(gpu))
    assert torch.equal(y_MN.cpu(), torch.full((20, 5), 255.0 * value * (EXACT_COLUMNS - 1)))


@given(num_in=st.integers(1, 200), **SIZES)
@settings(max_examples=15)
def test_results_are_the_references(gpu: torch.device, num_rows: int, num_out: int, num_in: int, seed: int) -> None:
    from kernels.linear_i8.gpu import pack

    weight = layer(num_out, num_in, seed, gpu)
    x_MK = rows(num_rows, num_in, seed)
    assert_rounded_alike(pack(weight)(x_MK.to(gpu)), x_MK, weight)


def test_strided_rows(gpu: torch.device) -> None:
    from kernels.linear_i8.gpu import pack

    run = pack(layer(17, 24, 0, gpu))
    for x_MK in on(gpu, rows(24, 7, 1).t(), rows(7, 48, 2)[:, ::2], rows(14, 24, 3)[::2]):
        assert torch.equal(run(x_MK), run(x_MK.contiguous()))


def test_rows_elsewhere_are_refused(gpu: torch.device) -> None:
    from kernels.linear_i8.gpu import pack

    with pytest.raises(ValueError, match="x_MK is on meta; expected it beside the weight, on c"):
        pack(layer(3, 8, 0, gpu))(torch.empty(2, 8, device="meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("once", [False, True])
def test_a_weight_on_a_gpu_is_multiplied_there(gpu: torch.device, once: bool) -> None:
    weight = layer(33, 20, 0, gpu)
    x_MK = rows(7, 20, 1)
    packed = linear_i8.pack(weight.q_NK, weight.scale_N, weight.bias_N, once=once)
    assert set(packed.names) == {"triton"}
    assert_rounded_alike(linear_i8.linear_i8(x_MK.to(gpu), packed), x_MK, weight)
