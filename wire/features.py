"""The numbers and categories of an event, beside its text or instead of it, and what makes two events alike. Pure.

    {"price": 0.06, "region": "north"} --problem_of--> "" or what is wrong with them
    text, features --content_of--> one string --parts_of--> text, features

A number is a JSON number, a category a JSON string. Where events are compared, digested, remembered or learnt, this is
done by their content, one string: that of an event without features is its text, as it was before there were features.
"""

import math
from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

Features: TypeAlias = dict[str, float | str]
"""Numbers and categories by name."""

MAX_FEATURES: Final = 1_024
"""Most features of an event."""

MAX_FEATURE_BYTES: Final = 256
"""Longest name and longest category, in bytes of UTF-8."""

PAST: Final = "past:"
"""What the names of features begin with that are taken over from earlier events (`serving.series`)."""

_MARK: Final = "\x1e"  # the record separator of ASCII, which JSON holds only as an escape

_DECODER: Final = msgspec.json.Decoder(Features)


def problem_of(features: Mapping[str, float | str]) -> str:
    """Returns what is wrong with the features of an event; "" where nothing is.

    >>> problem_of({"price": 0.06, "region": "north"}), problem_of({"": 1.0})
    ('', "`features` has a name that is blank: name each value, such as 'price'")
    """
    if len(features) > MAX_FEATURES:
        return f"`features` has {len(features)} values, at most {MAX_FEATURES} are read"
    for name, value in features.items():
        if not name.strip():
            return "`features` has a name that is blank: name each value, such as 'price'"
        if len(name.encode()) > MAX_FEATURE_BYTES:
            return f"a name in `features` has {len(name.encode())} bytes, at most {MAX_FEATURE_BYTES} are read"
        if isinstance(value, str) and len(value.encode()) > MAX_FEATURE_BYTES:
            size = len(value.encode())
            return f"the category {name!r} has {size} bytes, at most {MAX_FEATURE_BYTES} are read: longer ones are text"
        if not isinstance(value, str) and not math.isfinite(value):
            return f"the number {name!r} is {value}, not finite: leave out what is not known"
    return ""


def problem_of_content(text: str, features: Mapping[str, float | str]) -> str:
    """Returns what is wrong with what an event says: its features, or that there is nothing; "" where nothing is."""
    if not features:
        return "" if text.strip() else "`text` is blank, and there are no `features`"
    return problem_of(features)


def content_of(text: str, features: Mapping[str, float | str]) -> str:
    """Returns one string for text and features; other ones have another string, and the order of features is nothing.

    >>> content_of("hello", {}), content_of("", {"b": 1.0, "a": "x"})
    ('hello', '\\x1e{"a":"x","b":1.0}\\x1e')
    """
    if not features and not text.startswith(_MARK):
        return text
    values = {name: value if isinstance(value, str) else float(value) for name, value in features.items()}
    return f"{_MARK}{msgspec.json.encode(values, order='sorted').decode()}{_MARK}{text}"


def has_features(content: str) -> bool:
    """Whether a content has features."""
    return bool(parts_of(content)[1])


def has_text(content: str) -> bool:
    """Whether a content has a text."""
    return not content.startswith(_MARK) or bool(parts_of(content)[0].strip())


def parts_of(content: str) -> tuple[str, Features]:
    """Returns the text and the features of a content.

    >>> parts_of(content_of("hello", {"a": 1.0}))
    ('hello', {'a': 1.0})
    """
    if not content.startswith(_MARK):
        return content, {}
    encoded, _, text = content[1:].partition(_MARK)
    try:
        return text, _DECODER.decode(encoded)
    except msgspec.DecodeError:  # a text of a program from before there were features
        return content, {}


def own_features(features: Features) -> Features:
    """Returns the features that were sent: without those that were taken over from earlier events."""
    return {name: value for name, value in features.items() if not name.startswith(PAST)}


def own_content(content: str) -> str:
    """Returns a content as it was sent: without what was taken over from earlier events.

    >>> parts_of(own_content(content_of("hello", {"a": 1.0, "past:1:a": 2.0})))
    ('hello', {'a': 1.0})
    """
    text, features = parts_of(content)
    own = own_features(features)
    return content_of(text, own) if len(own) < len(features) else content
