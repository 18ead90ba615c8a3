"""Reads `--set NAME=VALUE`, which changes a field of a benchmark's size, a frozen dataclass of numbers and texts."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import msgspec

S = TypeVar("S")


class BadOption(ValueError):
    """An option that no size has, or whose value it cannot have."""


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """Splits assignments into names and values. Raises BadOption.

    >>> parse_assignments(["seed=7", "only=kill"])
    {'seed': '7', 'only': 'kill'}
    """
    pairs = [text.partition("=") for text in assignments]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise BadOption(f"{wrong[0]!r}: write --set NAME=VALUE")
    return {name: value for name, _, value in pairs}


def with_options(size: S, options: Mapping[str, str]) -> S:
    """Returns `size` with the fields that `options` name replaced. Raises BadOption, which lists the fields."""
    known: dict[str, Any] = {field.name: field.type for field in fields(size)}  # type: ignore[arg-type]
    unknown = sorted(options.keys() - known.keys())
    if unknown:
        raise BadOption(f"{unknown[0]!r}: there is no such option; there are {', '.join(sorted(known))}")
    try:
        values = {name: msgspec.convert(value, known[name], strict=False) for name, value in options.items()}
    except msgspec.ValidationError as error:
        raise BadOption(str(error)) from error
    return replace(size, **values)  # type: ignore[type-var]
