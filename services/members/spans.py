"""Reads the spans of a command line, such as `local,window=64,sinks=4`."""

from dataclasses import fields

from model.config import Span
from model.errors import WrongConfig


def span_of(text: str) -> Span:
    """Returns the span. Raises WrongConfig.

    >>> span_of("local,window=64,sinks=4").window
    64
    """
    kind, *settings = text.split(",")
    values: dict[str, int] = {}
    known = [each.name for each in fields(Span) if each.name != "kind"]
    for setting in settings:
        name, _, number = setting.partition("=")
        if name not in known or not number.isdecimal():
            raise WrongConfig(f"span {text!r}: {setting!r} is none of {', '.join(known)} with a number after =")
        values[name] = int(number)
    return Span(kind=kind, **values)  # type: ignore[arg-type]  # Span refuses other kinds
