"""Checks the bars of row E10; `tests/bench/harness/test_cases.py` runs the row, `test_layout.py` its parts."""

from bench.layout import PATCHES
from bench.techniques.memory_layout import SWITCHES, TECHNIQUE


def test_each_switch_has_a_bar_and_an_encoder() -> None:
    assert SWITCHES.keys() <= {bar.name for bar in TECHNIQUE.bars}
    assert {*SWITCHES.values()} < PATCHES.keys()
