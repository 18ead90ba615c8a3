"""Checks the figures that row E6 compares with the plain server; `tests/bench/harness/test_cases.py` runs the row."""

import pytest

from bench.techniques.batching import LENGTHS, TECHNIQUE
from bench.techniques.lone_server import PLAIN, main


@pytest.mark.parametrize("length", LENGTHS)
def test_each_figure_of_an_encoder_has_its_bar(length: int) -> None:
    names = {bar.name for bar in TECHNIQUE.bars}
    assert {f"{figure}_{length}" for figure in main(PLAIN, 8, 0.001)} <= names
