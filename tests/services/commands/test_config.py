"""The commands that show the settings: a valid file, a schema, and where each value is from."""

import json
from pathlib import Path

import pytest

from tests.services.command_line import lifelong
from wire.logs import HIDDEN


def test_shown_settings_are_a_valid_file_that_says_the_same(tmp_path: Path) -> None:
    shown = lifelong("config", "show", LIFELONG_SEED="7", LIFELONG_BUS__PREFIX="x.").stdout
    file = tmp_path / "settings.toml"
    file.write_text(shown)
    again = lifelong("config", "show", "--config", str(file))
    assert (again.returncode, again.stdout) == (0, shown)
    assert "# [advanced] Seed of all random numbers." in shown and "partitions =" not in shown
    everything = lifelong("config", "show", "--all").stdout
    assert "partitions = 4" in everything and "slow_batch" not in everything


def test_the_schema_of_the_file_is_printed_with_what_an_editor_shows() -> None:
    schema = json.loads(lifelong("config", "schema").stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$defs"]["BusConfig"]["properties"]["partitions"] == {
        "title": "Partitions",
        "description": "Number of partitions of each topic that the service creates.",
        "type": "integer",
        "minimum": 1,
        "maximum": 10_000,
        "default": 4,
    }


def test_sources_are_said_and_secrets_hidden() -> None:
    done = lifelong(
        "config",
        "show",
        "--all",
        "--sources",
        "--json",
        LIFELONG_SIGNING_KEY="canary" * 4,
        LIFELONG_STORE__URL="redis://a:pw@h",
    )
    shown = json.loads(done.stdout)
    assert shown["signing_key"] == {"value": HIDDEN, "source": "LIFELONG_SIGNING_KEY"}
    assert shown["store.url"] == {"value": f"redis://{HIDDEN}@h", "source": "LIFELONG_STORE__URL"}
    assert shown["bus.partitions"]["source"] == "default"
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("encoder", "digts:Digits", "--set encoder: encoder 'digts:Digits' does not import"),
        ("learner.head", "mine:Ridge", "--set learner.head: learner.head 'mine:Ridge': mine:Ridge does not import"),
        ("learner.slow_strategy", "mine:Own", "mine:Own does not import"),
        ("tasks", '{"urgency": {"learner": {"head": "mine:Ridge"}}}', "tasks.urgency.learner.head"),
        ("encoder", "json:loads", "cannot be made without arguments"),
        ("bus.sasl_password_fil", "/x", "Did you mean bus.sasl_password_file?"),
    ],
)
def test_what_no_program_could_start_with_is_no_valid_setting(name: str, value: str, said: str) -> None:
    done = lifelong("config", "check", "--set", f"{name}={value}")
    assert (done.returncode, said in done.stderr) == (78, True), done.stderr
    assert "PYTHONPATH" in done.stderr or "import" not in said
