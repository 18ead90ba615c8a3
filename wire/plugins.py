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

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
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
        return self._load(name, self._path_of(name))

    def all(self) -> tuple[P, ...]:
        """Returns the built-in plug-ins, and those that were asked for, by name. Raises PluginError."""
        for name in built_in(self.door):
            self.get(name)
        return tuple(self._plugins[name] for name in sorted(self._plugins))

    def load_installed(self) -> None:
        """Asks for each plug-in that an installed package lists. Raises PluginError."""
        for name, entry in _entry_points(self.door).items():
            if name not in self._plugins:
                self._load(name, entry.value)

    def problem_beside(self, plugin: P, others: Iterable[P]) -> str:
        """Returns why a plug-in cannot stand beside the others; "" if it can."""
        return ""

    def _load(self, name: str, path: str) -> P:
        with self._lock:
            plugin = self.register(imported(path))
            self._by_path[name] = plugin
        if name != path and plugin.name != name:
            raise PluginError(f"{path} is called {plugin.name!r}, and {name!r} where it is listed: call it the same")
        return plugin

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


class Claiming(Named, Protocol):
    """What a plug-in of a door has whose settings may mean something of it, and not the plug-in itself."""

    def claims(self, setting: str) -> bool: ...


C = TypeVar("C", bound=Claiming)


class Families(Registry[C]):
    """The plug-ins of a door, of which one claims what a setting says."""

    def __init__(self, door: str, protocol: type) -> None:
        super().__init__(door, protocol)
        self._claimed: dict[str, C] = {}

    def register(self, plugin: C) -> C:
        self._claimed = {}
        return super().register(plugin)

    def claiming(self, setting: str) -> C:
        """Returns the plug-in that claims a setting, or that the setting names. Raises PluginError.

        Those of others are asked before the built-in ones.
        """
        if setting not in self._claimed:
            own = built_in(self.door)
            listed = {*own, *_entry_points(self.door), *self._plugins}
            plugins = [self.get(name) for name in sorted(listed, key=lambda name: (name in own, name))]
            claiming = next((plugin for plugin in plugins if _claims(plugin, setting)), None)
            found = claiming if claiming is not None else self.get(setting)
            self._claimed[setting] = found
        return self._claimed[setting]

    def of_record(self, name: str) -> C:
        """Returns the plug-in that a record names. Raises PluginError for a path: no record makes a process import."""
        if ":" in name:
            raise PluginError(f"{name!r} is no name of a plug-in of lifelong.{self.door}")
        return self.get(name)


class Symbols(Named, Protocol):
    """A plug-in of two halves: this one loads no torch, and `tensors` is the import path of the other one."""

    @property
    def tensors(self) -> str: ...


S = TypeVar("S", bound=Symbols)
T = TypeVar("T")


class Halves(Generic[S, T]):
    """The tensors of the plug-ins of one door.

    - `door`: the name of the door in error messages.
    - `broken_laws` yields the problems of tensors with the examples of their symbols. It may raise anything.
    - `error`: the class of the errors that are raised.
    """

    def __init__(self, door: str, broken_laws: Callable[[T, S], Iterator[str]], error: type[Exception]) -> None:
        self._door = door
        self._broken_laws = broken_laws
        self._error = error
        self._found: dict[str, T] = {}

    def of(self, symbols: S) -> T:
        """Returns the tensors of a plug-in, which are imported and tried once. Raises the error of this door."""
        path = symbols.tensors
        if path not in self._found:
            self._found[path] = self._imported(symbols)
        return self._found[path]

    def _imported(self, symbols: S) -> T:
        shown = f"{symbols.tensors}, the tensors of {self._door} {symbols.name},"
        try:
            tensors: T = imported(symbols.tensors)
            problem = next(self._broken_laws(tensors, symbols), "")
        except Exception as error:
            # Code of a user may raise anything: the message must name the plug-in.
            raise self._error(f"{shown} cannot be used: {type(error).__name__}: {error}") from error
        if problem:
            raise self._error(f"{shown} cannot be used: {problem}")
        return tensors


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


_CALL: Final = re.compile(r"(?P<path>[^\W\d]\w*(?:\.\w+)*(?::\w+|\.[A-Z]\w*))(?:\((?P<arguments>.*)\))?")
"""An import path with arguments. After a dot, the name begins with a capital: `er.ace`, a misspelt name, is no path."""


def parsed(name: str, pattern: re.Pattern[str] = _CALL) -> tuple[str, dict[str, Any]]:
    """Splits a name into an import path and the arguments in brackets, Python literals. Raises PluginError.

    >>> parsed("my.module:Mine(alpha=0.5, sizes=[1, 2])")
    ('my.module:Mine', {'alpha': 0.5, 'sizes': [1, 2]})
    """
    match = pattern.fullmatch(name)
    if match is None:
        raise PluginError(f"{name!r} is no import path: say package.module:Class(argument=value)")
    try:
        call = ast.parse(f"it({match['arguments'] or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("an argument without a name")
        return match["path"], {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise PluginError(f"{name!r}: arguments are Python literals with their names, as in (alpha=0.5)") from error


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


def problem_of_examples(plugin: Any, shown: str, broken_laws: Callable[[Any, Any], Iterator[str]]) -> str:
    """Returns the first problem of a plug-in with one of its `examples`, which the text calls a `shown`; "" if none."""
    for value in plugin.examples:
        try:
            problem = next(broken_laws(plugin, value), "")
        except Exception as error:  # noqa: BLE001
            # Code of a user may raise anything: the message must name the plug-in.
            problem = f"it raises {type(error).__name__}: {error}"
        if problem:
            return f"of the {shown} {value!r}, {problem}"
    return ""


def _claims(plugin: Claiming, setting: str) -> bool:
    try:
        return plugin.claims(setting)
    except Exception as error:
        raise PluginError(f"{_shown(plugin)} fails on {setting!r}: {type(error).__name__}: {error}") from error


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
