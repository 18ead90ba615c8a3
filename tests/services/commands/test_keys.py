"""`lifelong keys`: what a key is shown as, and what is said where there is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from serving.http.access import KeyFile
from tests.services.command_line import lifelong


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"LIFELONG_SERVING__KEYS_FILE": str(tmp_path / "keys.json")}


def as_json(*words: str, **environ: str) -> Any:
    done = lifelong("keys", *words, "--json", **environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_key_is_shown_once_and_lasts_until_it_is_revoked(environ: dict[str, str], tmp_path: Path) -> None:
    made = as_json("create", "shop", "--role", "predict", "--role", "feedback", **environ)
    assert (made["name"], made["roles"]) == ("shop", ["predict", "feedback"])
    assert KeyFile(tmp_path / "keys.json").find(made["key"]) is not None
    (listed,) = as_json("list", **environ)
    assert made == {**listed, "key": made["key"]}
    assert as_json("revoke", "shop", **environ) == listed
    assert as_json("list", **environ) == []


def test_what_cannot_be_done_is_said(environ: dict[str, str]) -> None:
    for words, code, said in (
        (("create", "shop", "--role", "owner"), 2, "predict, feedback, admin"),
        (("revoke", "shop"), 78, "lifelong keys create"),
        (("list",), 78, "lifelong keys create"),
    ):
        done = lifelong("keys", *words, **environ)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    done = lifelong("keys", "list")
    assert (done.returncode, "serving.keys_file" in done.stderr) == (78, True), done.stderr
