"""The implementations of one door, by name: the only way by which the core comes to them.

    register(plugin), in this process ------------------------------------+
    lifelong.plugins.BUILT_IN[door]: name -> module:attribute             +--> Registry.get(name) --> the plug-in
    entry points of the group `lifelong.<door>`, of any distribution      |
    an import path, module:attribute, in the place of a name -------------+

A plug-in is looked up in this order, and imported once, when it is first asked for. Only names travel between
processes: each of them imports what it needs. A plug-in that cannot be used, because it lacks a member or has the name
of another one, is one PluginError, when it is first asked for.

The built-in plug-ins stand in a table of `lifelong.plugins`, which is imported by its name, so that the core imports no
implementation. They are no entry points: those are read from the metadata of an installation, which in a checkout is as
old as the last `pip install -e .`, and a service would not find its own plug-ins. Reading them takes 0.1 s, too, which
every command and every client would wait for.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from threading import RLock
from typing import Any, Final, Generic, Protocol, TypeVar

BUILT_IN: Final = "lifelong.plugins"
"""The module whose table BUILT_IN has the import paths of the built-in plug-ins, by door and name."""


class PluginError(ValueError):
    """A plug-in cannot be found or used; the message says what mends that."""


class Named(Protocol):
    """What every plug-in has."""

    @property
    def name(self) -> str: ...


P = TypeVar("P", bound=Named)


class Registry(Generic[P]):
    """The plug-ins of a `door` that were asked for so far, each of which has the members of `protocol`."""

    def __init__(self, door: str, protocol: type) -> None:
        self.door = door
        self._members = members_of(protocol)
        self._plugins: dict[str, P] = {}
        self._by_path: dict[str, P] = {}
        self._lock = RLock()

    def register(self, plugin: P) -> P:
        """Adds a plug-in of this process, and returns it. Raises PluginError if it lacks a member, or if another one
        has its name, or if it cannot stand beside the others."""
        shown = _shown(plugin)
        check_members(plugin, self._members, f"{shown}, a plug-in of lifelong.{self.door},")
        with self._lock:
            other = self._plugins.get(plugin.name)
            if other is plugin:
                return plugin
            if other is not None:
                raise PluginError(f"{shown} and {_shown(other)} are both called {plugin.name!r}: rename one of them")
            if problem := self.problem_beside(plugin, self._plugins.values()):
                raise PluginError(f"{shown}: {problem}")
            self._plugins[plugin.name] = plugin
        return plugin

    def get(self, name: str) -> P:
        """Returns the plug-in that `name`, or an import path in its place, means. Raises PluginError."""
        found = self._plugins.get(name) or self._by_path.get(name)
        if found is not None:
            return found
        path = self._path_of(name)
        with self._lock:
            plugin = self.register(imported(path))
            self._by_path[name] = plugin
        if name != path and plugin.name != name:
            raise PluginError(f"{path} is called {plugin.name!r}, and {name!r} where it is listed: call it the same")
        return plugin

    def all(self) -> tuple[P, ...]:
        """Returns the built-in plug-ins, and those that were asked for, by name. Raises PluginError."""
        for name in built_in(self.door):
            self.get(name)
        return tuple(self._plugins[name] for name in sorted(self._plugins))

    def problem_beside(self, plugin: P, others: Iterable[P]) -> str:
        """Returns why a plug-in cannot stand beside the others; "" if it can."""
        return ""

    def _path_of(self, name: str) -> str:
        """Returns the import path of a plug-in. Raises PluginError if there is none."""
        paths = built_in(self.door)
        if name in paths:
            return paths[name]
        if ":" in name:
            return name
        entries = _entry_points(self.door)
        if name in entries:
            return entries[name].value
        known = sorted({*self._plugins, *paths, *entries})
        near = get_close_matches(name, known, n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}, and module:attribute"
        raise PluginError(f"there is no {name!r} among the plug-ins of lifelong.{self.door}; {meant}")


def imported(path: str) -> Any:
    """Returns what an import path, `module:attribute`, names. Raises PluginError.

    >>> imported("math:tau") > 6
    True
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:
        # The module is another's: whatever its import raises has to name it.
        raise PluginError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error


def built_in(door: str) -> Mapping[str, str]:
    """Returns the import paths of the built-in plug-ins of a door, by name."""
    paths: Mapping[str, str] = import_module(BUILT_IN).BUILT_IN.get(door, {})
    return paths


def members_of(protocol: type) -> tuple[str, ...]:
    """Returns the names of the attributes and methods of a protocol.

    >>> members_of(Named)
    ('name',)
    """
    names = {name: None for each in reversed(protocol.__mro__) for name in (*_annotations_of(each), *vars(each))}
    inherited = {*vars(Protocol), *vars(Generic), *vars(object)}
    return tuple(name for name in names if not name.startswith("_") and name not in inherited)


def check_members(plugin: object, members: Iterable[str], shown: str) -> None:
    """Raises PluginError, which names the plug-in as it is `shown`, if it lacks one of these members."""
    if missing := [name for name in members if not hasattr(plugin, name)]:
        raise PluginError(f"{shown} lacks {', '.join(missing)}")


def _annotations_of(each: type) -> Iterable[str]:
    found: Mapping[str, Any] = getattr(each, "__annotations__", {})
    return found


def _entry_points(door: str) -> dict[str, EntryPoint]:
    """Returns the entry points of a door by name. Raises PluginError if two distributions have one of the same name."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"lifelong.{door}"):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise PluginError(
                f"{other.value} and {entry.value} are both the entry point {entry.name!r} of lifelong.{door}: remove "
                "one of the packages, or rename it"
            )
    return found


def _shown(plugin: object) -> str:
    kind = plugin if isinstance(plugin, type) else type(plugin)
    return f"{kind.__module__}.{kind.__qualname__}"
