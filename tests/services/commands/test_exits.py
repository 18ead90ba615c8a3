"""The exit codes of errors, each with one message."""

from pathlib import Path

import pytest

from services.commands.exits import CONFIGURATION, TEMPORARY, exit_code
from services.local.children import free_port
from tests.services.command_line import lifelong
from wire.errors import BadSignature, BlobCorrupt, WireError
from wire.keyring import new_ring


def test_without_a_stack_commands_say_what_to_start(tmp_path: Path) -> None:
    for words in (
        ("versions",),
        ("rollout", "status"),
        ("predict", "hello"),
        ("feedback", "id", "label"),
        ("forget", "--subject", "a"),
    ):
        nobody = str(free_port())
        done = lifelong(*words, LIFELONG_STATE_DIR=str(tmp_path), LIFELONG_SERVING__HTTP_PORT=nobody)
        assert done.returncode == 75
        assert "lifelong up" in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_an_unreachable_store_ends_with_75(tmp_path: Path) -> None:
    nobody = {
        "LIFELONG_STORE__URL": "redis://127.0.0.1:1/0",
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_SIGNING_KEY": "k" * 20,
    }
    done = lifelong("versions", **nobody)
    assert (done.returncode, "Traceback" in done.stderr) == (75, False), done.stderr
    assert "127.0.0.1:1" in done.stderr


@pytest.mark.parametrize("words", [("learn",), ("rollout", "run")], ids=["learn", "rollout"])
def test_who_has_to_sign_does_not_start_with_the_keys_of_a_replica(tmp_path: Path, words: tuple[str, ...]) -> None:
    environ = {
        "LIFELONG_STORE__URL": "redis://127.0.0.1:1/0",
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_SIGNING_KEY": new_ring().for_replicas().text,
    }
    done = lifelong(*words, **environ)
    assert (done.returncode, done.stderr.count("\n")) == (78, 1), done.stderr
    assert "our keys can verify but not sign" in done.stderr and "LIFELONG_SIGNING_KEY_FILE" in done.stderr


def test_an_error_has_the_code_of_its_nearest_base_class() -> None:
    assert exit_code(BlobCorrupt("a", "b")) == exit_code(WireError()) == TEMPORARY
    assert exit_code(BadSignature("version 7")) == CONFIGURATION
    with pytest.raises(StopIteration):
        exit_code(RuntimeError("a bug"))
