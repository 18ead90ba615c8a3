"""The input `features`: numbers and categories by name, with the text of an event or instead of it.

    {"price": 0.06, "region": "north"}

A number is a JSON number, and a category is a JSON string. `series` adds features from earlier events of the same key.
"""

import math
from typing import Any, Final

from wire.inputs import MAX_FEATURES, Enricher, Features
from wire.plugins import import_attribute

MAX_FEATURE_BYTES: Final = 256
"""The longest name and the longest category, in bytes of UTF-8."""

SERIES: Final = "lifelong.plugins.inputs.series:open_series"
"""The function that opens the series of a replica. It is imported only if the settings use a series."""

PAST: Final = "past:"
"""The prefix of the names of features that come from earlier events (`series`)."""


class FeaturesCodec:
    """The codec of features. The encoder does not read them: `feature_tensors` makes a vector of them."""

    name = "features"
    field = "features"
    tensors = "lifelong.plugins.inputs.feature_tensors:TENSORS"
    has_tokens = False
    max_bytes = 0
    examples: tuple[Features, ...] = ({"price": 0.06, "region": "north"}, {"past:1:price": 0.05, "price": 0.06})

    def problem(self, value: Features) -> str:
        """Returns what is wrong with the features, and the fix, or "".

        >>> FEATURES.problem({"price": 0.06, "region": "north"}), FEATURES.problem({"": 1.0})
        ('', "`features` has a name that is blank: name each value, such as 'price'")
        """
        if len(value) > MAX_FEATURES:
            return f"`features` has {len(value)} values, at most {MAX_FEATURES} are read"
        for name, each in value.items():
            if not name.strip():
                return "`features` has a name that is blank: name each value, such as 'price'"
            size = len(name.encode())
            if size > MAX_FEATURE_BYTES:
                return f"a name in `features` has {size} bytes, at most {MAX_FEATURE_BYTES} are read"
            if not isinstance(each, str):
                if not math.isfinite(each):
                    return f"the number {name!r} is {each}, not finite: leave out what is not known"
                continue
            size = len(each.encode())
            if size > MAX_FEATURE_BYTES:
                return (
                    f"the category {name!r} has {size} bytes, at most {MAX_FEATURE_BYTES} are read: longer ones are "
                    "text"
                )
        return ""

    def cut(self, value: Features, max_tokens: int) -> Features:
        return value

    def sent(self, value: Features) -> Features:
        """Returns the features that the client sent, without the features from earlier events."""
        return {name: each for name, each in value.items() if not name.startswith(PAST)}

    def render(self, value: Features) -> str:
        return ", ".join(f"{name} {each}" for name, each in value.items())

    def enricher(self, replica: Any) -> Enricher | None:
        if not replica.settings.series.is_used:
            return None
        series: Enricher = import_attribute(SERIES)(replica)
        return series


FEATURES: Final = FeaturesCodec()
