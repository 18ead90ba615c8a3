"""Checks the bars of row E13; `tests/bench/harness/test_cases.py` runs the row."""

from bench.techniques.head_pruning import SHARE, TECHNIQUE


def test_the_share_is_in_the_unit_of_the_bar() -> None:
    unit = next(bar.unit for bar in TECHNIQUE.bars if bar.name == "loss")
    assert f"{SHARE:.0%}".replace("%", " %") in unit
