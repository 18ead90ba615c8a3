"""Tests that a plug-in is found in the table, among entry points, or by a path, and the errors of all other names."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Protocol

import pytest

from wire import plugins
from wire.plugins import Families, Named, PluginError, Registry, import_attribute, list_members, parse_call


class Greeting(Named, Protocol):
    """The protocol of the plug-ins."""

    loudness: int

    def greet(self) -> str: ...


@dataclass
class Greeter:
    name: str
    loudness: int = 1

    def greet(self) -> str:
        return f"hello from {self.name}"


@dataclass
class Silent:
    name: str


HELLO = Greeter("hello")
WORLD = Greeter("world")
SILENT = Silent("silent")
HERE = "tests.wire.test_plugins"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry[Any]:
    monkeypatch.setattr(plugins, "built_in", lambda group: {"hello": f"{HERE}:HELLO", "wrong": f"{HERE}:WORLD"})
    entries = [EntryPoint("world", f"{HERE}:WORLD", "lifelong.greetings")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries if group == "lifelong.greetings" else [])
    return Registry("greetings", Greeting)


def test_a_name_is_looked_up_in_the_table_among_entry_points_and_as_a_path(registry: Registry[Any]) -> None:
    assert registry.get("hello") is HELLO
    assert (HELLO.greet(), HELLO.loudness) == ("hello from hello", 1)
    assert registry.get("world") is WORLD
    assert registry.get(f"{HERE}:WORLD") is WORLD
    own = registry.register(Greeter("own"))
    assert registry.get("own") is own


def test_plugins_of_installed_packages_can_be_loaded_at_once(registry: Registry[Any]) -> None:
    registry.load_installed()
    assert registry._plugins == {"world": WORLD}


def test_all_returns_the_table_and_the_requested_plugins(registry: Registry[Any]) -> None:
    registry.get("world")
    with pytest.raises(PluginError, match="is called 'world', but it is listed as 'wrong'"):
        registry.all()
    assert [each.name for each in registry._plugins.values()] == ["world", "hello"]


def test_two_plugins_of_one_name_are_refused_and_one_may_be_registered_twice(registry: Registry[Any]) -> None:
    registry.get("hello")
    assert registry.register(HELLO) is HELLO
    with pytest.raises(PluginError, match="are both called 'hello': rename one of them"):
        registry.register(Greeter("hello"))
    assert registry.get("hello") is HELLO


def test_a_plugin_without_a_member_is_refused_with_the_missing_names(registry: Registry[Any]) -> None:
    with pytest.raises(PluginError, match=r"Silent, a plug-in of lifelong.greetings, lacks loudness, greet"):
        registry.get(f"{HERE}:SILENT")


def test_an_unknown_name_is_refused_with_a_suggestion(registry: Registry[Any]) -> None:
    with pytest.raises(PluginError, match=r"there is no 'helo' among .*; did you mean 'hello'"):
        registry.get("helo")
    with pytest.raises(PluginError, match="there are hello, world, wrong, and module:attribute"):
        registry.get("zzz")


def test_two_packages_with_one_entry_point_are_refused(
    registry: Registry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [EntryPoint("twin", f"{HERE}:{name}", "lifelong.greetings") for name in ("WORLD", "HELLO")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: both)
    with pytest.raises(PluginError, match="are both the entry point 'twin'"):
        registry.get("twin")


@pytest.mark.parametrize("path", ["nowhere.at.all:X", f"{HERE}:NOTHING", "raises_when_imported:X"])
def test_a_failed_import_names_the_path(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises_when_imported.py").write_text('raise RuntimeError("not today")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=f"{path} cannot be imported: "):
        import_attribute(path)


def test_the_members_of_a_protocol_are_its_attributes_and_methods() -> None:
    assert set(list_members(Greeting)) == {"name", "loudness", "greet"}


@dataclass
class Greeters(Greeter):
    """A family that claims the greetings that begin with its name."""

    def claims(self, setting: str) -> bool:
        return setting.startswith(self.name)


def test_a_setting_is_claimed_by_a_family_or_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "built_in", lambda group: {"h": f"{HERE}:SHORT"})
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    families = Families[Any]("greetings", Greeting)
    assert families.claiming("hello") is SHORT
    others = families.register(Greeters("hello"))
    assert families.claiming("hello") is others and families.claiming("hi") is SHORT
    with pytest.raises(PluginError, match="there is no 'good day' among"):
        families.claiming("good day")
    assert families.of_record("h") is SHORT
    with pytest.raises(PluginError, match="is not the name of a plug-in of"):
        families.of_record(f"{HERE}:SHORT")


SHORT = Greeters("h")


def test_an_import_path_may_have_arguments() -> None:
    assert parse_call("my.Mine(alpha=0.5)") == ("my.Mine", {"alpha": 0.5})
    for name in ("mine", "my:Mine(0.5)", "my:Mine(alpha=print())"):
        with pytest.raises(PluginError):
            parse_call(name)
