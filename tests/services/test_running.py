"""Tests the ownership of a state folder, and the announcement of its stack."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.local.stack import Stack
from services.local.supervisor import StackFailed
from services.running import FILE, NotRunning, announce, attach, claim, read_announcement
from services.settings import BadSettings, Settings, load

OWNER = """
import sys
from pathlib import Path
from services.running import claim
held = claim(Path(sys.argv[1]))
print(held, flush=True)
sys.stdin.read()
"""

SERVERS = {"LIFELONG_BUS__BOOTSTRAP_SERVERS": "kafka:9092", "LIFELONG_SIGNING_KEY": "k" * 20}


def settings_in(folder: Path, **environ: str) -> Settings:
    return load(file=Path(os.devnull), environ={"LIFELONG_STATE_DIR": str(folder), **environ}).settings


@contextmanager
def folder_owner(folder: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Starts another process, which claims `folder`."""
    argv = [sys.executable, "-c", OWNER, str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert b"None" not in owner.stdout.readline()
        yield owner
        owner.kill()


def announced(folder: Path, url: str, *, owns_store: bool = False) -> None:
    announce(settings_in(folder, LIFELONG_STORE__URL=url, **SERVERS), folder, owns_store=owns_store)


def test_a_folder_has_one_owner_until_he_is_gone(tmp_path: Path) -> None:
    """B19: the kernel's lock shows the owner, without a clock; a second owner is refused while the first starts."""
    with folder_owner(tmp_path):
        assert claim(tmp_path) is None
        announced(tmp_path, "redis://redis")
        assert read_announcement(tmp_path) is not None
    assert read_announcement(tmp_path) is None
    with folder_owner(tmp_path):
        assert read_announcement(tmp_path) is None, "what the last owner announced is gone"


def test_who_is_refused_leaves_alone_what_the_owner_has_announced(tmp_path: Path) -> None:
    """B19: a second stack in the folder, or in the folder where commands look for a stack, is refused."""
    with folder_owner(tmp_path / "theirs"):
        announced(tmp_path / "theirs", "redis://redis")
        stack = Stack(settings_in(tmp_path / "ours"), announce_in=tmp_path / "theirs")
        with pytest.raises(StackFailed, match="already runs"), stack:
            pass
        assert read_announcement(tmp_path / "theirs") is not None
    with folder_owner(tmp_path / "ours"):
        # The refused stack has released the folders that it had claimed before.
        pass


def test_other_commands_find_what_is_announced(tmp_path: Path) -> None:
    with folder_owner(tmp_path):
        announced(tmp_path, "unix:///run/redis.sock", owns_store=True)
        attached = attach(settings_in(tmp_path))
    assert (attached.store.url, attached.bus.bootstrap_servers) == ("unix:///run/redis.sock", "kafka:9092")
    assert attached.signing_key is not None
    with pytest.raises(NotRunning, match="lifelong up"):
        attach(settings_in(tmp_path))


def test_no_password_is_written_down(tmp_path: Path) -> None:
    """B24: a command that needs the password is told to set it; the file is private."""
    file = tmp_path / FILE
    with folder_owner(tmp_path):
        for url in ("redis://me:hush@redis:6379/0", "unix:///run/redis.sock?password=hush"):
            announced(tmp_path, url)
            assert "hush" not in file.read_text()
            assert json.loads(file.read_text())["bus.bootstrap_servers"] == "kafka:9092"
            assert file.stat().st_mode & 0o777 == 0o600
            with pytest.raises(BadSettings, match=r"LIFELONG_STORE__URL: is required.*leaves out"):
                attach(settings_in(tmp_path))
            attached = attach(settings_in(tmp_path, LIFELONG_STORE__URL=url, LIFELONG_SIGNING_KEY="k" * 20))
            assert (attached.store.url, attached.bus.bootstrap_servers) == (url, "kafka:9092")


def test_the_key_of_a_server_that_is_not_the_stacks_is_asked_for(tmp_path: Path) -> None:
    with folder_owner(tmp_path):
        announced(tmp_path, "redis://redis")
        with pytest.raises(BadSettings, match="LIFELONG_SIGNING_KEY: is required"):
            attach(settings_in(tmp_path))


def test_a_new_folder_is_its_owner_s_alone_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    """B24."""
    old = tmp_path / "old"
    old.mkdir(mode=0o755)
    for folder, mode in ((old, 0o755), (tmp_path / "new", 0o700)):
        with folder_owner(folder):
            assert folder.stat().st_mode & 0o777 == mode
            assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
