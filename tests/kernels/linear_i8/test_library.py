"""The INT8 layer from torch's operations: its rows, and the reasons against a missing or wrong operation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.linear_i8 import library, reference
from kernels.linear_i8.library import INT8
from tests.kernels.linear_i8.layers import rows


def test_integer_implementations_exist_here() -> None:
    """A machine with neither multiplier works, but is five times slower: this test reports it."""
    able = [impl.name for impl in INT8 if not impl.why_unavailable()]
    assert able, [impl.why_unavailable() for impl in INT8]


def test_wrong_sums_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(w_NP: Tensor, scale_N: Tensor) -> library.Multiply:
        return lambda packed_MP: reference.accumulate(packed_MP, w_NP).clamp(-(1 << 15), (1 << 15) - 1) * scale_N

    assert library._impl("saturating", saturating).why_unavailable() == [
        "saturating gives wrong sums for extreme values on this processor"
    ]


def test_an_absent_operation_is_a_reason() -> None:
    def absent(w_NP: Tensor, scale_N: Tensor) -> library.Multiply:
        raise RuntimeError("no such operator\nstack trace")

    (reason,) = library._impl("absent", absent).why_unavailable()
    assert reason.endswith("has no absent here: no such operator")


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 1 << 30))
@settings(max_examples=60)
def test_packed_rows_are_the_quantized_rows(num_in: int, num_rows: int, seed: int) -> None:
    x_MK = rows(num_rows, num_in, seed=seed)
    packed_MP, packed_scale_M1, packed_min_M1 = library.pack_rows(x_MK)
    q_MK, scale_M1, min_M1 = reference.quantize_rows(x_MK)
    assert torch.equal(packed_MP[:, :num_in], q_MK)
    assert torch.equal(packed_scale_M1, scale_M1)
    assert torch.equal(packed_min_M1, min_M1)
