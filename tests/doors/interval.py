"""A kind of labels that no file of ours knows: a range of numbers, `{"kind": "interval", "low": 2, "high": 4}`.

The head has two rows, one for each end. An answer agrees with its label by what they have in common, as a share of what
both cover.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lifelong.plugins.kinds.scores import scale_to_unit, unit_bits
from wire.errors import BadMessage
from wire.kinds import Card, Fingerprint, Range, kind_prefix

MARK: Final = kind_prefix("interval")
SENT: Final = f"{MARK}sent "
UNIT: Final = f"{MARK}unit "
ROWS: Final = (f"{MARK}low", f"{MARK}high")


class IntervalKind:
    name = "interval"
    field = "target"
    noun = "an interval"
    how_sent = '`target`, such as {"kind": "interval", "low": 2, "high": 4}'
    marks = (MARK,)
    tensors = "tests.doors.interval_tensors:TENSORS"
    is_exclusive = False
    has_classes = False
    trains_encoder = False
    examples = (f"{UNIT}0.25 0.75", f"{UNIT}0.5 0.5")

    def problem(self, value: Mapping[str, Any]) -> str:
        ends = [value.get(name) for name in ("low", "high")]
        if not all(isinstance(end, int | float) for end in ends):
            return "`target` needs `low` and `high`, two numbers"
        return "" if value["low"] <= value["high"] else "`target` has its `low` above its `high`"

    def read(self, value: Mapping[str, Any]) -> str:
        return f"{SENT}{float(value['low'])!r} {float(value['high'])!r}"

    def write(self, label: str) -> dict[str, float]:
        low, high = parse_ends(label)
        return {"low": low, "high": high}

    def from_value(self, value: Any) -> Any:
        if value is None or isinstance(value, dict):
            return value
        if isinstance(value, list) and len(value) == 2:
            return {"low": float(value[0]), "high": float(value[1])}
        raise BadMessage("wrong_schema", "an interval has two ends")

    def from_text(self, text: str) -> Any:
        return self.from_value(text.split(".."))

    def render(self, label: str) -> str:
        return "{:g}..{:g}".format(*parse_ends(label))

    def class_names(self, label: str) -> tuple[str, ...]:
        return ()

    def row_names(self, label: str) -> tuple[str, ...]:
        return ROWS

    def with_classes(self, label: str, names: Sequence[str]) -> str:
        return label

    def learnt(self, label: str, space: Range) -> str:
        if not label.startswith(SENT):
            return label
        low, high = (scale_to_unit(end, space.low, space.high) for end in parse_ends(label))
        return f"{UNIT}{low!r} {high!r}"

    def fingerprint(self, label: str) -> Fingerprint:
        low, high = parse_ends(label)
        return unit_bits(low), unit_bits(high)

    def agreement(self, predicted: Fingerprint, labelled: Fingerprint) -> float:
        if isinstance(predicted, int) or isinstance(labelled, int):
            return 0.0
        covered = max(predicted[1], labelled[1]) - min(predicted[0], labelled[0])
        common = min(predicted[1], labelled[1]) - max(predicted[0], labelled[0])
        return max(common / covered, 0.0) if covered else 1.0

    def card(self, space: Range) -> Card:
        return Card("logits", "return self.scores(texts).tolist()", f"two numbers from {space.low:g} to {space.high:g}")


def parse_ends(label: str) -> tuple[float, float]:
    """Returns both ends, as they were sent or by their place in the range."""
    low, high = label[len(UNIT) :].split(" ")
    return float(low), float(high)


INTERVAL: Final = IntervalKind()
