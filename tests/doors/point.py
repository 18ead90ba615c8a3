"""An input that no file of ours knows: two numbers, `{"type": "point", "x": 1.0, "y": 2.0}`."""

import math
from typing import Any, Final

from wire.inputs import Enricher, Part


class PointCodec:
    name = "point"
    field = "parts"
    tensors = "tests.doors.point_tensors:TENSORS"
    has_tokens = False
    max_bytes = 0
    examples: tuple[Part, ...] = ({"type": "point", "x": 1.0, "y": 2.0}, {"type": "point", "x": 0.0, "y": -3})

    def problem(self, value: Part) -> str:
        for name in ("x", "y"):
            number = value.get(name)
            if isinstance(number, bool) or not isinstance(number, int | float):
                return "a point needs `x` and `y`, two numbers"
            if not math.isfinite(number):
                return f"a point whose `{name}` is not finite"
        return ""

    def cut(self, value: Part, max_tokens: int) -> Part:
        return {name: value[name] for name in ("type", "x", "y")}

    def sent(self, value: Part) -> Part:
        return value

    def render(self, value: Part) -> str:
        return f"({value['x']:g}, {value['y']:g})"

    def enricher(self, replica: Any) -> Enricher | None:
        return None


POINT: Final = PointCodec()
