"""Checks the rows of sparse attention, from made measurements."""

import pytest

from bench.sparse_attention import make_rows


@pytest.mark.parametrize(("ms", "is_linear"), [([1, 2, 4], True), ([1, 2.5, 6], False)])
def test_a_row_for_each_length_and_the_slope(ms: list[float], is_linear: bool) -> None:
    lengths = [2048, 4096, 8192]
    measured = [
        {"length": length, "ms": {"ours": each, "full": 30.0}} for length, each in zip(lengths, ms, strict=True)
    ]
    *rows, slope = make_rows(measured)
    assert [row.name for row in rows] == [f"sparse_attention.{length}" for length in lengths]
    assert rows[1].calls[0].value == round(4096 / ms[1] * 1000)
    assert [row.met for row in rows] == [None, True, False]
    assert slope.met is is_linear
