"""Templates of text: `"{subject}\\n{body}"`, filled from the JSON object of a message.

    "{customer.name}"  "{items.0.sku}"  "{note?}"  "{{literal}}"

A path names an object's field or a list's place at each dot; where a field has the rest of the path as its name, dots
and all, it is that one. A field that is missing or null is an error, which names the nearest field that is there;
behind `?` it is empty. Numbers and truth values become the text that JSON has for them, lists and objects their JSON.
There is nothing else: no format codes, no attributes, no calls.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import msgspec

from wire.errors import BadMessage
from wire.message import shown
from wire.structured import CONTENT_TYPE

MAX_TEMPLATE_CHARS = 1_000
MAX_FILLED_BYTES = 1 << 20
"""Largest text that a template may become: a field may be named in it several times."""

_PART = re.compile(r"\{\{|\}\}|\{([^{}.?]+(?:\.[^{}.?]+)*)(\?)?\}|[{}]")


@dataclass(frozen=True, slots=True)
class Path:
    """The way to a field: its names, and whether it may be missing."""

    names: tuple[str, ...]
    is_optional: bool

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(frozen=True, slots=True)
class Template:
    """Texts and paths, in their order. `name` is that of the setting, for messages."""

    name: str
    parts: tuple[str | Path, ...]

    @classmethod
    def of(cls, text: str, name: str) -> "Template":
        """Returns the template that `text` is. Raises ValueError, with the place, where it is none.

        >>> Template.of("{a.b} and {{c}}", "x").parts
        (Path(names=('a', 'b'), is_optional=False), ' and ', '{', 'c', '}')
        """
        if len(text) > MAX_TEMPLATE_CHARS:
            raise ValueError(f"{name} has {len(text)} characters, at most {MAX_TEMPLATE_CHARS} are read")
        parts: list[str | Path] = []
        at = 0
        for match in _PART.finditer(text):
            parts.append(text[at : match.start()])
            at = match.end()
            if match[1]:
                parts.append(Path(tuple(match[1].split(".")), is_optional=bool(match[2])))
            elif match[0] in ("{{", "}}"):
                parts.append(match[0][0])
            else:
                place = f"character {match.start() + 1}"
                raise ValueError(f"{name}: {place}: write {{field}} or {{path.to.field}}, and {{{{ for a brace")
        parts.append(text[at:])
        return cls(name, tuple(part for part in parts if part != ""))

    @property
    def paths(self) -> list[Path]:
        return [part for part in self.parts if isinstance(part, Path)]

    def fill(self, body: Mapping[str, Any]) -> str:
        """Returns the text for the fields of `body`. Raises BadMessage where one is missing, or the text too long."""
        texts = [part if isinstance(part, str) else self._text(part, body) for part in self.parts]
        if sum(map(len, texts)) > MAX_FILLED_BYTES:
            raise BadMessage("oversized", f"{self.name} becomes longer than {MAX_FILLED_BYTES} bytes")
        return "".join(texts)

    def value(self, body: Mapping[str, Any]) -> Any:
        """Returns the value itself where the template is one field alone, such as a number; else the text."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Path):
            return self._found(self.parts[0], body)
        return self.fill(body)

    def _text(self, path: Path, body: Mapping[str, Any]) -> str:
        found = self._found(path, body)
        if isinstance(found, str):
            return found
        return "" if found is None else msgspec.json.encode(found).decode()

    def _found(self, path: Path, body: Mapping[str, Any]) -> Any:
        value: Any = body
        for at, name in enumerate(path.names):
            rest = ".".join(path.names[at:])
            if (whole := _inner(value, rest)) is not None:
                return whole
            if (inner := _inner(value, name)) is None:
                if path.is_optional:
                    return None
                there = _event_there(value, path) or _there(value, rest if _has(value, rest) else name)
                raise BadMessage("wrong_schema", f"`{path}` is missing (setting {self.name}){there}")
            value = inner
        return value


def _inner(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    if isinstance(value, Sequence) and not isinstance(value, str) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    return None


def _has(value: Any, name: str) -> bool:
    return isinstance(value, Mapping) and name in value


def _event_there(value: Any, path: Path) -> str:
    """Says how the data of a CloudEvent are reached, where the message is one and does not say so; else ""."""
    if not (_has(value, "specversion") and _has(value, "data")):
        return ""
    return f": it is a CloudEvent. Send the header content-type: {CONTENT_TYPE}, or write {{data.{path}}}"


def _there(value: Any, name: str) -> str:
    """Says what is there instead, and which of it may be meant."""
    if not isinstance(value, Mapping):
        return f": there is no field in a JSON {type(value).__name__}"
    if name in value:
        return f": `{name}` is null; write {{{name}?}} where it may be"
    close = get_close_matches(name, value, n=1)
    found = f": there are {shown(', '.join(value))}" if value else ": the object is empty"
    return f"{found}. Did you mean {shown(close[0])}?" if close else found
