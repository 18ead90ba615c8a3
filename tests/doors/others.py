"""A plug-in that is another one under another name, but for what a test changes, and a method that fails."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Other:
    """The plug-in `like`. What is changed to None is missing."""

    like: Any
    changed: dict[str, Any]
    name: str = "other"

    def __getattr__(self, name: str) -> Any:
        changed = object.__getattribute__(self, "changed")
        if name in changed:
            if changed[name] is None:
                raise AttributeError(name)
            return changed[name]
        return getattr(object.__getattribute__(self, "like"), name)


def fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError("not today")
