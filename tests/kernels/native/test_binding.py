"""The binding: a file that is not our shared object is refused, and each function of a table is right."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from kernels import native
from kernels.encoder.weights import ACTIVATIONS
from kernels.linear_i8 import reference
from kernels.linear_i8.native import ADD, GELU, linear, pack_weight
from kernels.native import address, binding
from tests.kernels import tolerances

GENERATOR = torch.Generator().manual_seed(0)


GELU_ERROR = 1e-4
"""The bound in kernels/native/source/rows.h: an eighth of the 8-bit resolution of MiniLM's narrowest row."""


def test_a_file_that_is_no_object_of_ours_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not an object")
    with pytest.raises(OSError, match="broken"):
        binding.Library(broken)


def test_rows_are_quantized_to_the_bit(isa: str) -> None:
    for width in (1, 15, 16, 17, 384, 1000):
        x_MK = torch.randn(7, width, generator=GENERATOR) * 3 + 1
        # A constant row has the range 0.
        x_MK[3] = 2.5
        q_MK = torch.empty(7, width, dtype=torch.uint8)
        qparams_M2 = torch.empty(7, 2)
        shape = binding.Shape(7, width)
        native.kernels(isa).quantize_rows(address(x_MK), shape, address(q_MK), address(qparams_M2))
        expected, scale_M1, min_M1 = reference.quantize_rows(x_MK)
        assert torch.equal(q_MK, expected)
        assert torch.equal(qparams_M2, torch.cat((scale_M1, min_M1), dim=1))


@pytest.mark.parametrize(("num_out", "num_in"), [(70, 96), (96, 128)])
def test_epilogues(isa: str, num_out: int, num_in: int) -> None:
    """ADD adds exactly the y of the reference. The GELU is a piecewise approximation."""
    q_NK = torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8, generator=GENERATOR)
    layer = reference.Int8Weight.of(q_NK, torch.full((num_out,), 0.004), torch.randn(num_out, generator=GENERATOR))
    packed = pack_weight(layer)
    x_MK = torch.randn(43, num_in, generator=GENERATOR)
    y_MN = reference.linear(x_MK, layer)
    assert y_MN.abs().max() > 5
    gelu_MN = linear(x_MK, packed, num_out, isa=isa, epilogue=GELU)
    assert (gelu_MN.double() - functional.gelu(y_MN.double())).abs().max() < GELU_ERROR
    stored_MN = torch.randn(43, num_out, generator=GENERATOR)
    sum_MN = stored_MN.clone()
    native.raise_for_status(native.kernels(isa).linear(ADD, address(x_MK), 43, address(packed), address(sum_MN)))
    assert torch.equal(sum_MN, y_MN + stored_MN)


@pytest.mark.parametrize(("num_out", "num_in"), [(70, 97), (96, 128)])
def test_sums_are_exact(isa: str, num_out: int, num_in: int) -> None:
    q_NK = torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8, generator=GENERATOR)
    packed = pack_weight(reference.Int8Weight.of(q_NK, torch.ones(num_out), None))
    for num_rows in (1, 7, 40, 100):
        x_MK = torch.randint(0, 256, (num_rows, num_in), dtype=torch.uint8, generator=GENERATOR)
        sums_MN = torch.empty(num_rows, num_out, dtype=torch.int32)
        status = native.kernels(isa).accumulate(address(x_MK), num_rows, address(packed), address(sums_MN))
        native.raise_for_status(status)
        assert torch.equal(sums_MN, reference.accumulate(x_MK, q_NK)), num_rows


def test_norms_and_means(isa: str) -> None:
    x_MD = torch.randn(9, 48, generator=GENERATOR) * 4 - 1
    gain_D = torch.randn(48, generator=GENERATOR)
    bias_D = torch.randn(48, generator=GENERATOR)
    found = x_MD.clone()
    norm = binding.Norm(address(gain_D), address(bias_D), None, 1e-5)
    native.kernels(isa).norm_rows(address(found), binding.Shape(9, 48), norm)
    exact_MD = functional.layer_norm(x_MD.double(), (48,), gain_D.double(), bias_D.double(), 1e-5)
    tolerances.assert_within(found, exact_MD, tolerances.layer_norm(x_MD, gain_D, bias_D))
    offsets_B = torch.tensor([0, 1, 6, 9], dtype=torch.int32)
    means_BD = torch.empty(3, 48)
    native.kernels(isa).mean_rows(address(x_MD), 48, address(offsets_B), 3, address(means_BD))
    for mean_D, x_SD in zip(means_BD, (x_MD[:1], x_MD[1:6], x_MD[6:]), strict=True):
        tolerances.assert_within(mean_D, x_SD.double().mean(dim=0), tolerances.mean(x_SD))


GATES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "geglu": functional.gelu,
    "geglu_tanh": partial(functional.gelu, approximate="tanh"),
    "swiglu": functional.silu,
}


@pytest.mark.parametrize("activation", GATES)
def test_gated_units(isa: str, activation: str) -> None:
    """Every instruction set gives the same bits, and large gates neither overflow nor vanish."""
    gate_MN = torch.cat((torch.linspace(-30, 30, 7 * 400), torch.tensor([-1e20, -1e4, 0, 1e20] * 20))).view(-1, 80)
    value_MN = torch.randn(gate_MN.shape, generator=GENERATOR)
    bits: list[torch.Tensor] = []
    for each in (isa, "plain"):
        x_MN = torch.cat((gate_MN, value_MN), dim=1)
        shape = binding.Shape(*gate_MN.shape)
        native.kernels(each).gate_rows(ACTIVATIONS.index(activation), address(x_MN), shape)
        bits.append(x_MN.flatten()[: gate_MN.numel()].view_as(gate_MN))
    assert torch.equal(*bits)
    expected_MN = GATES[activation](gate_MN.double()) * value_MN.double()
    # The logistic function is within 3e-7 of the exact one, relative to the result.
    allowed_MN = GELU_ERROR * value_MN.abs() if activation == "geglu" else 1e-5 * expected_MN.abs() + 1e-9
    assert ((bits[0].double() - expected_MN).abs() <= allowed_MN + 1e-6 * expected_MN.abs()).all()
