"""B7: tests a full disk: answers go on, publishing waits, no file is corrupt, and all continues when there is space."""

import json
import os
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from learner.state.checkpoints import Checkpoints
from services.programs import open_store
from services.running import attach
from services.settings import load
from tests.required import missing
from tests.services.http_client import Client, ask
from tests.services.stack_owner import UP, Owner, owning
from tests.waiting import eventually

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]

DISK_MIB = 700
FULL_S = 15.0
SOON_S = 60.0


def own_mounts() -> list[str]:
    """Returns the prefix of a command that runs in its own mount namespace; skips where that is not permitted."""
    command = ["unshare", "--mount"]
    if sys.platform != "linux" or subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        missing("namespaces", "no mounts of our own: needs Linux and the right to mount")
    return command


@pytest.mark.parametrize("kind", ["tansu", "kafka"])
def test_a_full_disk_stops_no_answer_and_is_forgotten_when_there_is_space(kind: str, tmp_path: Path) -> None:
    """Runs `main`, below, in its own mount namespace, where the state folder is a small disk."""
    if kind == "kafka" and not os.environ.get("KAFKA_HOME"):
        missing("kafka", "Apache Kafka: KAFKA_HOME is not set")
    command = [*own_mounts(), sys.executable, "-m", __name__, kind, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-5_000:]


def main(kind: str, folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", str(folder)], check=True)
    environ = {"KAFKA_HOME": os.environ["KAFKA_HOME"]} if kind == "kafka" else {}
    with owning(UP, folder, **environ) as up:
        eventually(up.learns)
        filler = fill(folder)
        eventually(lambda: bool(up.lines("is full")))
        # Wait until the version that was being published is published or refused.
        time.sleep(1.0)
        before = current(up)
        with Client(up.port) as client:
            teach(up)
            time.sleep(FULL_S)
            up.kill("redis")
            eventually(lambda: current(up) == before)
            teach(up)
        assert (client.failed, client.asked > 20) == (0, True), client
        check_whole(folder)
        filler.unlink()
        eventually(lambda: bool(up.lines("There is space again")), within_s=SOON_S)
        teach(up)
        eventually(lambda: current(up) > before, within_s=SOON_S)
        check_whole(folder)
        up.kill("redis")
        eventually(up.learns)
        check_whole(folder)
        assert [len(up.lines(words)) for words in ("is full", "There is space again")] == [1, 1], up.said
        assert up.process.poll() is None


def fill(folder: Path) -> Path:
    """Fills the disk to the last byte; returns the file that fills it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


def teach(up: Owner) -> None:
    """Sends labels, which would make a new version; a broker whose disk is full refuses them."""
    for label in ("delivery", "refund"):
        if (answer := ask(up.port)) is not None:
            up.ask("feedback", answer["event_id"], label, "--receipt", answer["receipt"])


def current(up: Owner) -> int:
    """Returns the current version, which a server that refuses to write still answers; 0 while it does not answer."""
    done = up.ask("versions", "--json")
    return int(json.loads(done.stdout)["current"]) if done.returncode == 0 else 0


def check_whole(folder: Path) -> None:
    """Checks that every checkpoint and every blob of the current version is intact."""
    checkpoints = Checkpoints(folder / "learner", num_newest=1)
    assert checkpoints.newest() is not None
    assert checkpoints.refused == []
    settings = attach(load(file=Path(os.devnull), environ={"LIFELONG_STATE_DIR": str(folder)}).settings)
    with closing(open_store(settings)) as store:
        for tensor in store.versions.manifest(store.versions.current()).tensors:
            store.blobs.get(tensor.digest, tensor.num_bytes)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
