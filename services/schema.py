"""The schema of the settings: name, type, default and documentation, read from the dataclasses of the rooms.

The documentation of a setting is the docstring under its field, so it exists once: in the room's config.py.
"""

import ast
import dataclasses
import inspect
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from wire.logs import HIDDEN, without_password

KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, such as `bus.partitions`: its type, its default and its documentation."""

    name: str
    annotation: Any
    default: Any
    doc: str
    bounds: tuple[Any, ...] = ()
    """The bounds (Ge, Gt, Le, Lt) of a number."""

    @property
    def is_secret(self) -> bool:
        return self.annotation is SecretStr or SecretStr in get_args(self.annotation)

    @property
    def kind(self) -> str:
        """The type in words: `a whole number`."""
        if get_origin(self.annotation) is Literal:
            return f"one of {', '.join(get_args(self.annotation))}"
        types = [kind for kind in get_args(self.annotation) or (self.annotation,) if kind is not type(None)]
        return KINDS.get(types[0], "a secret" if self.is_secret else str(self.annotation))

    @property
    def limits(self) -> str:
        """The range in words: `at least 1 and at most 64`; empty where there is none."""
        return " and ".join(_in_words(bound) for bound in self.bounds)

    def parse(self, text: str) -> Any:
        """Parses text from the environment or a flag: JSON for collections, None for an optional that is empty."""
        if not text and type(None) in get_args(self.annotation):
            return None
        if get_origin(self.annotation) in (tuple, list, dict, frozenset, set):
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                return text
        return text

    def shown(self, value: Any) -> Any:
        """Returns `value` as a JSON value, with secrets hidden."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if self.is_secret:
            return HIDDEN
        if isinstance(value, tuple | list | set | frozenset):
            return [without_password(str(item)) for item in value]
        return without_password(str(value))


def settings_of(schema: type[Any], fields: dict[str, FieldInfo]) -> dict[str, Setting]:
    """Returns every setting of the schema by dotted name; a field whose type is a dataclass is a section."""
    hints = get_type_hints(schema, include_extras=True)
    docs = docs_of(schema)
    found: dict[str, Setting] = {}
    for name, field in fields.items():
        if dataclasses.is_dataclass(hints[name]):
            found |= _section(name, hints[name])
        else:
            found[name] = _setting(name, hints[name], field.get_default(call_default_factory=True), docs[name])
    return found


def docs_of(cls: type[Any]) -> dict[str, str]:
    """Returns the docstring under each field of a class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            docs[ast.unparse(field.target)] = " ".join(str(below.value.value).split())
    return docs


def _section(section: str, cls: type[Any]) -> dict[str, Setting]:
    """Returns the settings of a section before those of its subsections: a TOML table ends where the next begins."""
    hints = get_type_hints(cls, include_extras=True)
    docs = docs_of(cls)
    found: dict[str, Setting] = {}
    for field in sorted(dataclasses.fields(cls), key=lambda field: dataclasses.is_dataclass(hints[field.name])):
        name = f"{section}.{field.name}"
        kind = hints[field.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            found |= _section(name, kind)
        else:
            found[name] = _setting(name, kind, field.default, docs.get(field.name, ""))
    return found


def _setting(name: str, hint: Any, default: Any, doc: str) -> Setting:
    if get_origin(hint) is not Annotated:
        return Setting(name, hint, default, doc)
    annotation, *extras = get_args(hint)
    bounds = tuple(extra for extra in extras if isinstance(extra, Ge | Gt | Le | Lt))
    return Setting(name, annotation, default, doc, bounds)


def _in_words(bound: Ge | Gt | Le | Lt) -> str:
    match bound:
        case Ge(ge):
            return f"at least {ge}"
        case Gt(gt):
            return f"above {gt}"
        case Le(le):
            return f"at most {le}"
        case Lt(lt):
            return f"below {lt}"
