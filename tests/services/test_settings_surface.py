"""Tests the frozen set of settings, their documentation, and the schema of their file."""

from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from services.settings import FOLLOWS, Settings, known_constants, values_by_name
from services.settings_docs import MAIN, RENAMED, documented_name, file_schema, schemas
from tests.services.known_settings import NUMBERS, bounds, facts
from wire.config import flat, nested

SNAPSHOT = Path(__file__).parent / "settings.txt"
HISTORY = Path(__file__).parent / "settings_history.txt"
"""Paragraphs: a sentence with the reason, then a line `- name` or `+ name` for each removed or added setting."""


def frozen() -> str:
    """Returns all settings, one a line."""
    marks = {name: "" if name in MAIN else " [advanced]" for name in schemas(Settings)}
    return "".join(f"{name}:{mark} {facts(name)}\n" for name, mark in marks.items())


def test_the_set_of_settings_is_frozen() -> None:
    assert frozen() == SNAPSHOT.read_text(), (
        "settings were added, removed or changed: say so in the change, and write the new list with "
        f"`python -m {__name__}`"
    )


def test_there_are_few_settings_and_fewer_that_a_user_must_know() -> None:
    assert len(schemas(Settings)) <= 160
    assert len({*MAIN}) == len(MAIN) <= 30 and schemas(Settings).keys() >= {*MAIN}


def test_a_constant_that_follows_a_setting_has_its_default() -> None:
    values = values_by_name(Settings())
    for name, setting in FOLLOWS.items():
        assert name in known_constants() and values[name] == values[setting]


def test_every_setting_that_came_or_went_has_a_reason() -> None:
    names = set[str]()
    for paragraph in HISTORY.read_text().strip().split("\n\n"):
        reason, *changes = paragraph.splitlines()
        assert reason.endswith(".") and changes, paragraph
        for sign, name in (change.split() for change in changes):
            assert (name in names) is (sign == "-"), f"{reason} {sign} {name}"
            names ^= {name}
    assert names == schemas(Settings).keys(), f"say in {HISTORY.name} why a setting came, went, or has another name"


def test_a_renamed_setting_leads_to_one_that_is_known() -> None:
    for old, new in RENAMED.items():
        known = documented_name(Settings, new) in schemas(Settings)
        assert known or any(name.startswith(f"{new}.") for name in schemas(Settings)), old
        assert old not in schemas(Settings)


def test_every_setting_is_documented() -> None:
    assert [name for name, schema in schemas(Settings).items() if not schema.get("description")] == []


def test_the_schema_is_valid_and_every_default_satisfies_it() -> None:
    schema = file_schema(Settings)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    values = flat(Settings().model_dump(mode="json"))
    settings = {name: value for name, value in values.items() if name not in known_constants()}
    assert [error.message for error in validator.iter_errors(nested(settings))] == []
    assert schemas(Settings).keys() == settings.keys()


def test_the_schema_refuses_what_loading_refuses() -> None:
    validator = Draft202012Validator(file_schema(Settings))
    wrong: list[dict[str, Any]] = [{"no_such": 1}, {"bus": {"partition": 3}}, {"learner": {"slow_batch": 8}}]
    wrong += [nested({name: bounds(name)[1] + 1}) for name in NUMBERS]
    wrong += [{"log_level": "loud"}, {"signing_key": "short"}, {"bus": 3}]
    for tree in wrong:
        assert not validator.is_valid(tree), tree


def test_the_schema_has_no_secret_of_its_own() -> None:
    secrets = {name: schema["default"] for name, schema in schemas(Settings).items() if schema["writeOnly"]}
    assert "signing_key" in secrets and {*secrets.values()} == {None}


if __name__ == "__main__":
    SNAPSHOT.write_text(frozen())
