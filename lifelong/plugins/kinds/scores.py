"""The kind `score`: the label of an event is a number in a range, the field `value`.

    raw_label(4.5)        the label string of a score as it was sent
    scaled_label(0.875)   the label string of a score that is scaled from its range to [0, 1], as it is learnt

The head has one row. Its logit is the scaled score. The agreement of an answer with its label is 1 - |error|, with the
error scaled to [0, 1], so the share of right answers is 1 minus the mean absolute error.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

from wire.errors import BadMessage
from wire.kinds import Card, Fingerprint, Range

SENT_MARK: Final = "\x1c"
"""The first character of a score as it was sent: the file separator of ASCII."""

UNIT_MARK: Final = "\x1f"
"""The first character of a scaled score: the unit separator of ASCII."""

VALUE_ROW: Final = f"{UNIT_MARK}score"
"""The name of the only row of a head for scores."""

UNIT_STEPS: Final = 1 << 16
"""Scaled scores are rounded to multiples of 1 / UNIT_STEPS."""

UNIT_BITS: Final = 1 << 32
"""The number of steps from 0 to 1 in a receipt, which holds a scaled score as 32 bits."""

NUMBER: Final = "a score is a number"


class ScoreKind:
    """The kind of labels that are numbers in a range."""

    name = "score"
    field = "value"
    noun = "a score"
    how_sent = "`value`, a number"
    marks = (SENT_MARK, UNIT_MARK)
    tensors = "lifelong.plugins.kinds.score_tensors:TENSORS"
    is_exclusive = False
    has_classes = False
    trains_encoder = False
    examples = (f"{UNIT_MARK}0.875", f"{UNIT_MARK}0.0", f"{UNIT_MARK}1.0")

    def problem(self, value: float) -> str:
        return "" if math.isfinite(value) else f"`value` is {value}, not a finite number"

    def read(self, value: float) -> str:
        return raw_label(value)

    def write(self, label: str) -> float:
        return parse_score(label)

    def from_value(self, value: Any) -> float | None:
        if isinstance(value, bool | list | dict):
            raise BadMessage("wrong_schema", NUMBER)
        try:
            return None if value is None else float(value)
        except ValueError:
            raise BadMessage("wrong_schema", NUMBER) from None

    def from_text(self, text: str) -> float | None:
        return self.from_value(text)

    def render(self, label: str) -> str:
        return label[1:]

    def class_names(self, label: str) -> tuple[str, ...]:
        return ()

    def row_names(self, label: str) -> tuple[str, ...]:
        return (VALUE_ROW,)

    def with_classes(self, label: str, names: Sequence[str]) -> str:
        return label

    def learnt(self, label: str, space: Range) -> str:
        if not label.startswith(SENT_MARK):
            return label
        return scaled_label(scale_to_unit(parse_score(label), space.low, space.high))

    def fingerprint(self, label: str) -> Fingerprint:
        return unit_bits(parse_score(label))

    def agreement(self, predicted: Fingerprint, labelled: Fingerprint) -> float:
        if not (isinstance(predicted, int) and isinstance(labelled, int) and predicted and labelled):
            return 0.0
        return 1 - abs(predicted - labelled) / UNIT_BITS

    def card(self, space: Range) -> Card:
        scores = f"{space.low!r} + logits.clamp(0, 1) * {space.high - space.low!r}"
        answers = f"a number from {space.low:g} to {space.high:g}"
        return Card(scores, "return self.scores(texts)[:, 0].tolist()", answers)


def raw_label(value: float) -> str:
    """Returns the label string of a score as it was sent."""
    return f"{SENT_MARK}{value!r}"


def scaled_label(unit: float) -> str:
    """Returns the label string of a scaled score in [0, 1]."""
    return f"{UNIT_MARK}{unit!r}"


def parse_score(label: str) -> float:
    """Returns the number in the label string of a score, sent or scaled.

    >>> parse_score(raw_label(4.5)), parse_score(scaled_label(0.875))
    (4.5, 0.875)
    """
    return float(label[1:])


def scale_to_unit(value: float, low: float, high: float) -> float:
    """Returns a number scaled from [low, high] to [0, 1], clipped, and rounded to 16 bits.

    >>> scale_to_unit(4.5, 1.0, 5.0), scale_to_unit(9.0, 1.0, 5.0)
    (0.875, 1.0)
    """
    unit = (value - low) / (high - low)
    return round(min(max(unit, 0.0), 1.0) * UNIT_STEPS) / UNIT_STEPS


def unit_bits(unit: float) -> int:
    """Returns a scaled score as a 32-bit number. It is never 0, which means no score.

    >>> [unit_bits(unit) / UNIT_BITS for unit in (0.5, 1.0)], unit_bits(0.0)
    ([0.5, 0.9999999997671694], 1)
    """
    return min(max(int(unit * UNIT_BITS), 1), UNIT_BITS - 1)


SCORE: Final = ScoreKind()
