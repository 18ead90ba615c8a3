"""The kind `score`: a number is sent as it is, and learnt scaled to [0, 1] with 16 bits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.plugins.kinds.scores import SCORE, parse_score, raw_label, scale_to_unit, scaled_label, unit_bits
from wire.errors import BadMessage
from wire.label_set import LabelConfig

RANGE = LabelConfig(kind="score", range=(1.0, 5.0))


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_learnt_number_does_not_change_if_it_is_learnt_again(value: float) -> None:
    learnt = SCORE.learnt(raw_label(value), RANGE)
    assert 0 <= parse_score(learnt) <= 1
    assert SCORE.learnt(learnt, RANGE) == learnt
    assert SCORE.read(SCORE.write(raw_label(value))) == raw_label(value)


@pytest.mark.parametrize("value", [True, [1.0], {"a": 1}, "high"])
def test_a_value_that_is_not_a_number_is_refused(value: object) -> None:
    with pytest.raises(BadMessage, match="a score is a number"):
        SCORE.from_value(value)
    assert (SCORE.from_value("4.5"), SCORE.from_value(None), SCORE.from_text("4.5")) == (4.5, None, 4.5)


@given(st.floats(0, 1), st.floats(0, 1))
def test_fingerprints_agree_by_the_absolute_error(one: float, other: float) -> None:
    words = SCORE.fingerprint(scaled_label(one)), SCORE.fingerprint(scaled_label(other))
    assert SCORE.agreement(*words) == pytest.approx(1 - abs(one - other), abs=2**-31)
    assert SCORE.agreement(0, words[1]) == 0.0 == SCORE.agreement((1,), words[1])
    assert unit_bits(one) > 0


def test_numbers_outside_the_range_are_clipped() -> None:
    assert (scale_to_unit(9.0, 1.0, 5.0), scale_to_unit(-9.0, 1.0, 5.0)) == (1.0, 0.0)
    assert "not a finite number" in SCORE.problem(float("inf"))
