"""Helpers for all sections of the settings: how a section is parsed, optional values, and rules between fields.

A field that is marked INTERNAL is a constant. It has a type, a range and a default like any other field, and a test may
create a section with another value, but users cannot set it.
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
"""The environment variable by which a test or a benchmark changes constants: `{"learner.slow_batch": 8}`."""


class Internal:
    """Marks a field as a constant: no file, variable or flag sets it, and the schema of the settings omits it."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Never:
        raise PydanticOmit


INTERNAL: Final = Internal()
"""The mark, as in `Annotated[int, Ge(1), INTERNAL]`."""

Value = TypeVar("Value")
OrNone: TypeAlias = Annotated[Value | None, BeforeValidator(lambda value: None if value == "" else value)]
"""An optional setting. In the environment, an empty text means that it has no value."""


def parse_json_setting(value: Any) -> Any:
    """Parses a setting from an environment variable: a list or a table in JSON, or the single item of a list.

    >>> [parse_json_setting(text) for text in ('["refund", "urgent"]', '{"fraud": 100}', "refund", "")]
    [['refund', 'urgent'], {'fraud': 100}, ['refund'], []]
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith(("[", "{")):
        return json.loads(text)
    return [text] if text else []


def constants(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the constants of sections and of their subsections, by dotted name.

    `sections` maps names to values. Values that are not dataclasses are ignored.
    """
    by_name: dict[str, Any] = {}
    for section, record in sections.items():
        if not is_dataclass(record):
            continue
        hints = get_type_hints(type(record), include_extras=True)
        values = {setting.name: getattr(record, setting.name) for setting in fields(record)}
        section_constants = constants(values)
        for name, value in values.items():
            if INTERNAL in getattr(hints[name], "__metadata__", ()):
                section_constants[name] = value
        by_name |= {f"{section}.{name}": value for name, value in section_constants.items()}
    return by_name


def refused_constant(name: str, value: Any) -> str:
    """Returns the error message for a user who sets the constant `name`, whose value is `value`."""
    return f"{name} is a constant now: {value}. Remove it"


def require(*rules: tuple[bool, str]) -> None:
    """Raises ValueError with the sentences of all broken rules. A rule is a pair: whether it holds, and its
    sentence."""
    broken = [sentence for holds, sentence in rules if not holds]
    if broken:
        raise ValueError("; ".join(broken))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values with dotted names as a tree of sections. If a value has the name of a section, it replaces the
    section.

    >>> nested({"bus": {}, "bus.partitions": 8, "seed": 1})
    {'bus': {'partitions': 8}, 'seed': 1}
    """
    tree: dict[str, Any] = {}
    # Empty sections are set first, so that they replace nothing, and then the deepest names, so that a value replaces a
    # section of its name.
    for name in sorted(values, key=lambda name: (values[name] == {}, name.count(".")), reverse=True):
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        # A section of the caller must not be filled in place.
        value = values[name]
        branch[leaf] = dict(value) if isinstance(value, Mapping) else value
    return tree


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a tree by dotted name. An empty section counts as a value, so that its name is checked.

    >>> flat({"seed": 1, "bus": {"partitions": 8}, "store": {}})
    {'seed': 1, 'bus.partitions': 8, 'store': {}}
    """
    values: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            values |= {f"{name}.{inner_name}": inner for inner_name, inner in flat(value).items()}
        else:
            values[name] = value
    return values
