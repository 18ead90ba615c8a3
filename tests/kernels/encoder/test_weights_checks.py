"""Tensors that do not fit are refused by name, with the found and the expected dtype and shape."""

import pytest
import torch

from kernels.encoder.weights import check, check_packed, read_header
from tests.kernels.encoder.blocks import packed, packed_i4


def test_a_dense_tensor_of_the_dtype_and_shape_is_accepted() -> None:
    check("x", torch.zeros(2, 3), torch.float32, (2, 3))
    for wrong in (torch.zeros(3, 2), torch.zeros(3, 2).T, torch.zeros(2, 3).double()):
        with pytest.raises(ValueError, match=r"x is torch.float.*; expected dense torch.float32 \[2, 3\]"):
            check("x", wrong, torch.float32, (2, 3))


def test_a_packed_weight_says_its_bits_and_shape() -> None:
    assert read_header(packed(7, 16)) == [8, 7, 16]
    assert read_header(packed_i4(7, 64)) == [4, 7, 64]
    assert read_header(torch.zeros(3)) == []
    check_packed("w", packed_i4(7, 64), (7, 64))
    with pytest.raises(ValueError, match=r"w is packed as \[4, 7, 64\]; expected 8 bits, 7 outputs, 64 inputs"):
        check_packed("w", packed_i4(7, 64), (7, 64), bits=(8,))
