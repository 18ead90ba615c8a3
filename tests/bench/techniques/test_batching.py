"""Checks what row E6 holds against the plain server; `test_run_register.py` runs the row."""

import pytest

from bench.techniques.batching import EXPERIMENT, LENGTHS
from bench.techniques.lone_server import PLAIN, main


@pytest.mark.parametrize("length", LENGTHS)
def test_each_figure_of_an_encoder_has_its_bar(length: int) -> None:
    names = {bar.name for bar in EXPERIMENT.bars}
    assert {f"{figure}_{length}" for figure in main(PLAIN, 8, 0.001)} <= names
