"""What every section of the settings is made with: how it is read, its optional values, and rules between its fields.

A field that is marked INTERNAL is a constant: it has a type, a range and a default as any other, and a test may make a
section with another value, but it is no setting.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Final, Never, TypeAlias, TypeVar, get_type_hints

from pydantic import BeforeValidator, ConfigDict
from pydantic_core import PydanticOmit

SECTION = ConfigDict(extra="forbid", use_attribute_docstrings=True)
"""How pydantic reads a section: unknown names are refused, and the docstring of a field is its description."""

INTERNAL_VARIABLE: Final = "LIFELONG_INTERNAL"
"""The variable of constants that a test or a benchmark needs otherwise: `{"learner.slow_batch": 8}`."""


class Internal:
    """Marks a field as a constant: no file, variable or flag sets it, and the schema of the settings leaves it out."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Never:
        raise PydanticOmit


INTERNAL: Final = Internal()
"""As in `Annotated[int, Ge(1), INTERNAL]`."""

Value = TypeVar("Value")
OrNone: TypeAlias = Annotated[Value | None, BeforeValidator(lambda value: None if value == "" else value)]
"""A setting that may have no value, written as an empty text in the environment."""


def decoded(value: Any) -> Any:
    """Returns a list or a table; in a variable of the environment it is JSON, or the only value of a list.

    >>> decoded('["refund", "urgent"]'), decoded('{"fraud": 100}'), decoded("refund"), decoded("")
    (['refund', 'urgent'], {'fraud': 100}, ['refund'], [])
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith(("[", "{")):
        return json.loads(text)
    return [text] if text else []


def constants(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the constants of sections, and of the sections below them, by dotted name. Other values are passed over.

    `sections` has values by name; those that are dataclasses are the sections.
    """
    found: dict[str, Any] = {}
    for section, record in sections.items():
        if not is_dataclass(record):
            continue
        hints = get_type_hints(type(record), include_extras=True)
        values = {each.name: getattr(record, each.name) for each in fields(record)}
        below = constants(values)
        for name, value in values.items():
            if INTERNAL in getattr(hints[name], "__metadata__", ()):
                below[name] = value
        found |= {f"{section}.{name}": value for name, value in below.items()}
    return found


def refused_constant(name: str, value: Any) -> str:
    """Returns what is said to somebody who sets a constant of this value."""
    return f"{name} is a constant now: {value}. Remove it"


def require(*rules: tuple[bool, str]) -> None:
    """Raises ValueError with the sentence of every rule, a condition between settings, that does not hold."""
    broken = [sentence for holds, sentence in rules if not holds]
    if broken:
        raise ValueError("; ".join(broken))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values with dotted names as a tree. A value in the place of a section hides what the section has.

    >>> nested({"bus": {}, "bus.partitions": 8, "seed": 1})
    {'bus': {'partitions': 8}, 'seed': 1}
    """
    tree: dict[str, Any] = {}
    for name in sorted(values, key=lambda name: (values[name] == {}, name.count(".")), reverse=True):
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = values[name]
    return tree


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a tree by dotted name. An empty section is a value, so that its name can be checked.

    >>> flat({"seed": 1, "bus": {"partitions": 8}, "store": {}})
    {'seed': 1, 'bus.partitions': 8, 'store': {}}
    """
    values: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            values |= {f"{name}.{below}": each for below, each in flat(value).items()}
        else:
            values[name] = value
    return values
