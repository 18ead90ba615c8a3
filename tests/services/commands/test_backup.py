"""`lifelong backup` and `restore` on the Redis of a state folder, where no service runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.keys import FILE
from services.open_store import own_store
from services.settings import Settings
from tests.services.command_line import lifelong
from tests.stores import publish, take_lease

pytestmark = pytest.mark.live


def run(folder: Path, *words: str, code: int = 0) -> Any:
    done = lifelong(*words, "--json", LIFELONG_STATE_DIR=str(folder))
    assert done.returncode == code, done.stderr
    return done.stderr if code else json.loads(done.stdout)


def test_a_service_of_one_machine_is_backed_up_and_restored_while_it_does_not_run(tmp_path: Path) -> None:
    here = tmp_path / "here"
    there = tmp_path / "there"
    backup = tmp_path / "backup"
    (here / "learner").mkdir(parents=True)
    (here / "learner" / "000000001-e1-v1.checkpoint").write_bytes(b"a checkpoint")
    with own_store(Settings(state_dir=here)) as (_, store):
        publish(store, take_lease(store), 2)
    made = run(here, "backup", str(backup))
    assert (made["current"], made["versions"]) == (2, [1, 2])
    assert "exists already" in run(here, "backup", str(backup), code=78)
    said = run(there, "restore", str(backup), code=78)
    assert str(there / FILE) in said and made["signers"][0] in said and not (there / FILE).exists()
    there.mkdir(exist_ok=True)
    (there / FILE).write_text((here / FILE).read_text())
    assert run(there, "restore", str(backup))["current"] == 2
    assert "already has keys of a service" in run(there, "restore", str(backup), code=78)
    with own_store(Settings(state_dir=there)) as (_, store):
        assert store.versions.manifest(2).version == 2
    assert (there / "learner" / "000000001-e1-v1.checkpoint").read_bytes() == b"a checkpoint"
    (backup / "learner" / "000000001-e1-v1.checkpoint").write_bytes(b"another")
    assert "was changed since the backup" in run(tmp_path / "third", "restore", str(backup), code=78)
