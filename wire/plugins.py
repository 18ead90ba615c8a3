"""The registry of plug-ins, in groups: one for each protocol. The core finds plug-ins only by their names.

    register(plugin), in this process ------------------------------------+
    lifelong.plugins.BUILT_IN[group]: name -> module:attribute            +--> Registry.get(name) --> the plug-in
    entry points of the group `lifelong.<group>`, of any distribution     |
    an import path, module:attribute, instead of a name ------------------+

A plug-in is looked up in this order, and imported when it is first requested. Processes exchange only names, and each
process imports the plug-ins that it needs. If a plug-in lacks a member of the protocol, or has another plug-in's name,
the first request raises PluginError.

The built-in plug-ins are listed in a table of `lifelong.plugins`, which is imported by its name, so that the core
imports no implementation. They are not entry points, for two reasons:

- Entry points are read from the metadata of an installation. In a checkout they are as old as the last
  `pip install -e .`, so a service might not find its own plug-ins.
- Reading them takes 0.1 s, and every command and client would wait for it.
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
"""The module whose table BUILT_IN has the import paths of the built-in plug-ins, by group and name."""


class PluginError(ValueError):
    """A plug-in cannot be found or used. The message has the fix."""


class Named(Protocol):
    """A plug-in: every plug-in has a name."""

    @property
    def name(self) -> str: ...


P = TypeVar("P", bound=Named)


class Registry(Generic[P]):
    """The plug-ins of one `group` that have been requested so far. Each of them has all members of `protocol`."""

    def __init__(self, group: str, protocol: type) -> None:
        self.group = group
        self._members = list_members(protocol)
        self._plugins: dict[str, P] = {}
        self._by_path: dict[str, P] = {}
        self._lock = RLock()

    def register(self, plugin: P) -> P:
        """Adds a plug-in to this process, and returns it.

        Raises PluginError if it lacks a member, has another plug-in's name, or has a `registration_problem`.
        """
        shown = _qualified_name(plugin)
        check_members(plugin, self._members, f"{shown}, a plug-in of lifelong.{self.group},")
        with self._lock:
            other = self._plugins.get(plugin.name)
            if other is plugin:
                return plugin
            if other is not None:
                names = f"{shown} and {_qualified_name(other)}"
                raise PluginError(f"{names} are both called {plugin.name!r}: rename one of them")
            if problem := self.registration_problem(plugin, self._plugins.values()):
                raise PluginError(f"{shown}: {problem}")
            self._plugins[plugin.name] = plugin
        return plugin

    def get(self, name: str) -> P:
        """Returns the plug-in with this name or import path, and imports it if needed. Raises PluginError."""
        plugin = self._plugins.get(name) or self._by_path.get(name)
        if plugin is not None:
            return plugin
        return self._load(name, self._import_path(name))

    def all(self) -> tuple[P, ...]:
        """Returns the built-in plug-ins and all plug-ins requested so far, sorted by name. Raises PluginError."""
        for name in built_in(self.group):
            self.get(name)
        return tuple(self._plugins[name] for name in sorted(self._plugins))

    def load_installed(self) -> None:
        """Imports all plug-ins of this group that installed packages list as entry points. Raises PluginError."""
        for name, entry in _entry_points(self.group).items():
            if name not in self._plugins:
                self._load(name, entry.value)

    def registration_problem(self, plugin: P, others: Iterable[P]) -> str:
        """Returns why a plug-in cannot be registered next to the others; "" if it can. Subclasses may override it."""
        return ""

    def _load(self, name: str, path: str) -> P:
        with self._lock:
            plugin = self.register(import_attribute(path))
            # The key may also be an import path, under which the plug-in is found again.
            self._by_path[name] = plugin
        if name != path and plugin.name != name:
            raise PluginError(f"{path} is called {plugin.name!r}, but it is listed as {name!r}: use the same name")
        return plugin

    def _import_path(self, name: str) -> str:
        """Returns the import path of a plug-in. Raises PluginError if there is no such plug-in."""
        paths = built_in(self.group)
        if name in paths:
            return paths[name]
        if ":" in name:
            return name
        entries = _entry_points(self.group)
        if name in entries:
            return entries[name].value
        known = sorted({*self._plugins, *paths, *entries})
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}, and module:attribute"
        raise PluginError(f"there is no {name!r} among the plug-ins of lifelong.{self.group}; {hint}")


class ClaimingPlugin(Named, Protocol):
    """A plug-in that recognises settings that do not name it. For example, an encoder family recognises the names of
    its encoders."""

    def claims(self, setting: str) -> bool: ...


C = TypeVar("C", bound=ClaimingPlugin)


class Families(Registry[C]):
    """The plug-ins of a group whose setting is either claimed by a plug-in, or is the name of one."""

    def __init__(self, group: str, protocol: type) -> None:
        super().__init__(group, protocol)
        self._claimed: dict[str, C] = {}

    def register(self, plugin: C) -> C:
        # The new plug-in may claim a setting that another one has claimed before.
        self._claimed = {}
        return super().register(plugin)

    def claiming(self, setting: str) -> C:
        """Returns the plug-in that claims the setting; if none does, the plug-in that the setting names. Raises
        PluginError."""
        if setting not in self._claimed:
            own = built_in(self.group)
            listed = {*own, *_entry_points(self.group), *self._plugins}
            # Users' plug-ins take precedence over the built-in ones.
            plugins = [self.get(name) for name in sorted(listed, key=lambda name: (name in own, name))]
            claiming = next((plugin for plugin in plugins if _claims(plugin, setting)), None)
            self._claimed[setting] = claiming if claiming is not None else self.get(setting)
        return self._claimed[setting]

    def of_record(self, name: str) -> C:
        """Returns the plug-in that a record names. Raises PluginError.

        An import path is refused, so that no record can make a process import a module.
        """
        if ":" in name:
            raise PluginError(f"{name!r} is not the name of a plug-in of lifelong.{self.group}")
        return self.get(name)


class TorchFreeHalf(Named, Protocol):
    """The half of a plug-in that does not load torch. `tensors` is the import path of its torch half."""

    @property
    def tensors(self) -> str: ...


S = TypeVar("S", bound=TorchFreeHalf)
T = TypeVar("T")


class TorchHalves(Generic[S, T]):
    """The torch halves ("tensors") of the plug-ins of one group.

    - `noun`: what error messages call such a plug-in.
    - `broken_laws`: yields a sentence for each rule of the protocol that a torch half breaks on the examples of its
      other half. It calls the plug-in, so it may raise any exception.
    - `error`: the exception that is raised if a torch half cannot be used.
    """

    def __init__(self, noun: str, broken_laws: Callable[[T, S], Iterator[str]], error: type[Exception]) -> None:
        self._noun = noun
        self._broken_laws = broken_laws
        self._error = error
        self._by_path: dict[str, T] = {}

    def of(self, plugin: S) -> T:
        """Returns the torch half of a plug-in. The first call imports and checks it.

        Raises the exception class that was given as `error` if the torch half cannot be used.
        """
        tensors = self._by_path.get(plugin.tensors)
        return tensors if tensors is not None else self._by_path.setdefault(plugin.tensors, self._load(plugin))

    def _load(self, plugin: S) -> T:
        shown = f"{plugin.tensors}, the tensors of {self._noun} {plugin.name},"
        try:
            tensors: T = import_attribute(plugin.tensors)
            problem = next(self._broken_laws(tensors, plugin), "")
        except Exception as error:
            # A user's module may raise any exception. The message names the plug-in.
            raise self._error(f"{shown} cannot be used: {type(error).__name__}: {error}") from error
        if problem:
            raise self._error(f"{shown} cannot be used: {problem}")
        return tensors


def import_attribute(path: str) -> Any:
    """Imports and returns the attribute at an import path, `module:attribute`. Raises PluginError.

    >>> import_attribute("math:tau") > 6
    True
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:
        # A user's module may raise any exception. The message names the module.
        raise PluginError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error


_CALL: Final = re.compile(r"(?P<path>[^\W\d]\w*(?:\.\w+)*(?::\w+|\.[A-Z]\w*))(?:\((?P<arguments>.*)\))?")
"""An import path with arguments. A class after a dot has a capital letter, so that the misspelt name `er.ace` is not
taken for an import path."""


def parse_call(name: str, pattern: re.Pattern[str] = _CALL) -> tuple[str, dict[str, Any]]:
    """Parses a setting such as the one below into an import path and keyword arguments. Raises PluginError.

    The arguments must be Python literals.

    >>> parse_call("my.module:Mine(alpha=0.5, sizes=[1, 2])")
    ('my.module:Mine', {'alpha': 0.5, 'sizes': [1, 2]})
    """
    match = pattern.fullmatch(name)
    if match is None:
        raise PluginError(f"{name!r} is not an import path: say package.module:Class(argument=value)")
    try:
        # Python parses the arguments, and `literal_eval` runs no code.
        call = ast.parse(f"it({match['arguments'] or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("an argument without a name")
        arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise PluginError(f"{name!r}: arguments are Python literals with their names, as in (alpha=0.5)") from error
    return match["path"], arguments


def built_in(group: str) -> Mapping[str, str]:
    """Returns the import paths of the built-in plug-ins of a group, by name."""
    paths: Mapping[str, str] = import_module(BUILT_IN).BUILT_IN.get(group, {})
    return paths


def list_members(protocol: type) -> tuple[str, ...]:
    """Returns the names of the attributes and methods of a protocol.

    >>> list_members(Named)
    ('name',)
    """
    inherited = {*vars(Protocol), *vars(Generic), *vars(object)}
    # A dict keeps the order of the definitions.
    names: dict[str, None] = {}
    for base in reversed(protocol.__mro__):
        annotations: Mapping[str, Any] = getattr(base, "__annotations__", {})
        names |= dict.fromkeys((*annotations, *vars(base)))
    return tuple(name for name in names if not name.startswith("_") and name not in inherited)


def check_members(plugin: object, members: Iterable[str], shown: str) -> None:
    """Raises PluginError if a plug-in lacks one of these members. `shown` describes the plug-in in the message."""
    if missing := [name for name in members if not hasattr(plugin, name)]:
        raise PluginError(f"{shown} lacks {', '.join(missing)}")


def check_examples(plugin: Any, noun: str, broken_laws: Callable[[Any, Any], Iterator[str]]) -> str:
    """Returns the first rule that a plug-in breaks on one of its `examples`; "" if none. `noun` is the word for an
    example."""
    for value in plugin.examples:
        try:
            problem = next(broken_laws(plugin, value), "")
        # A user's plug-in may raise any exception.
        except Exception as error:  # noqa: BLE001
            problem = f"it raises {type(error).__name__}: {error}"
        if problem:
            return f"for the {noun} {value!r}, {problem}"
    return ""


def _claims(plugin: ClaimingPlugin, setting: str) -> bool:
    try:
        return plugin.claims(setting)
    except Exception as error:
        raise PluginError(f"{_qualified_name(plugin)} fails on {setting!r}: {type(error).__name__}: {error}") from error


def _entry_points(group: str) -> dict[str, EntryPoint]:
    """Returns the entry points of a group by name. Raises PluginError if two packages use the same name."""
    by_name: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"lifelong.{group}"):
        other = by_name.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise PluginError(
                f"{other.value} and {entry.value} are both the entry point {entry.name!r} of lifelong.{group}: remove "
                "one of the packages, or rename it"
            )
    return by_name


def _qualified_name(plugin: object) -> str:
    cls = plugin if isinstance(plugin, type) else type(plugin)
    return f"{cls.__module__}.{cls.__qualname__}"
