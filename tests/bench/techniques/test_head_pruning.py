"""What row E13 reports; `test_run_register.py` runs it."""

from bench.techniques.head_pruning import EXPERIMENT, SHARE


def test_the_share_is_that_of_the_bar() -> None:
    unit = next(bar.unit for bar in EXPERIMENT.bars if bar.name == "loss")
    assert f"{SHARE:.0%}".replace("%", " %") in unit
