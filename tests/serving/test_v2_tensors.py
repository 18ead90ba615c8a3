"""Tensors and their bytes."""

import pytest

from serving.http.problems import RequestRefused
from serving.v2 import Tensor, num_elements, pack, unpack_texts


def test_texts_come_back_as_they_were() -> None:
    texts = ["where is my card", "", "\u00e9\U0001f600", "a\x00b"]
    assert unpack_texts("text", pack(Tensor("text", "BYTES", (4,), texts)), at_most=4) == texts


def test_numbers_are_little_endian_in_a_row() -> None:
    assert pack(Tensor("version", "INT64", (2,), [1, -1])) == b"\x01" + b"\x00" * 7 + b"\xff" * 8
    assert pack(Tensor("score", "FP32", (1,), [1.0])) == b"\x00\x00\x80\x3f"
    assert pack(Tensor("can_be_labelled", "BOOL", (2,), [True, False])) == b"\x01\x00"


@pytest.mark.parametrize(
    "data", [b"\x01", b"\x05\x00\x00\x00abc", b"\xff\xff\xff\xffa", b"\x01\x00\x00\x00\xff", b"\x00\x00\x00\x00" * 3]
)
def test_bytes_that_are_no_texts_are_refused(data: bytes) -> None:
    with pytest.raises(RequestRefused, match="text"):
        unpack_texts("text", data, at_most=2)


@pytest.mark.parametrize(("shape", "num"), [([3], 3), ([3, 1], 3), ([1], 1)])
def test_a_shape_says_how_many_events_there_are(shape: list[int], num: int) -> None:
    assert num_elements("text", shape, at_most=3) == num


@pytest.mark.parametrize("shape", [[], [0], [-1], [4], [3, 2], [1, 3], [3, 1, 1], [1 << 62], [0] * 99])
def test_other_shapes_are_refused(shape: list[int]) -> None:
    with pytest.raises(RequestRefused, match="text"):
        num_elements("text", shape, at_most=3)
