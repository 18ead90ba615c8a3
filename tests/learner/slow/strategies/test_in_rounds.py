from typing import get_args

import pytest

from learner.config import SlowStrategy
from learner.slow.strategies.in_rounds import MAKERS, make_strategy


def test_every_strategy_has_a_maker() -> None:
    assert MAKERS.keys() == {*get_args(SlowStrategy)}


def test_a_misspelt_strategy_is_refused_by_the_type_checker() -> None:
    with pytest.raises(KeyError):
        make_strategy("er.ace", loss_q=0.5)  # type: ignore[arg-type]  # mypy says so where it is no error any more
