"""Tests `lifelong import` with a running learner: a first version before any event, and every row accounted for."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.learner.learner_processes import LearnerProcesses
from tests.services.command_line import lifelong
from tests.stores import SIGNING_KEY
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.store import Store

TANSU = pytest.mark.parametrize("broker", ["tansu"], indirect=True)
CSV = "ticket,body,queue,agent\n1,where is my parcel,delivery,eve\n2,,delivery,eve\n3,I want my money,refund,bob\n"
MAPS = ("--map", "id={ticket}", "--map", "text={body}", "--map", "label={queue}")

Import = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def import_(bus: Bus, bus_config: BusConfig, store_config: StoreConfig, tmp_path: Path) -> Iterator[Import]:
    """Starts a learner; returns the function that runs the command."""
    environ = {
        "LIFELONG_STATE_DIR": str(tmp_path / "state"),
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": bus_config.bootstrap_servers,
        "LIFELONG_BUS__PREFIX": bus_config.prefix,
    }

    def run(*words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "services.cli", "import", *words]
        environment = os.environ | environ
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, input=stdin)

    children = LearnerProcesses(tmp_path, bus_config, store_config, trainable_layers=0)
    children.start()
    yield run
    children.close()


@pytest.mark.live
@TANSU
def test_history_makes_a_first_version_and_bad_rows_are_told(import_: Import, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text(CSV)
    refused = tmp_path / "refused.jsonl"
    done = import_(str(path), *MAPS, "--wait", "60", "--json", "--refused", str(refused))
    assert done.returncode == 2, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"], told["sent"], told["refused"]) == (3, 2, {"wrong_schema": 1})
    assert told["refused_rows"][0]["place"] == "line 3"
    (row,) = map(json.loads, refused.read_text().splitlines())
    assert "`body` is missing" in row["detail"] and "eve" in row["row"] and "--map" in row["fix"]
    assert set(store.versions.manifest(told["version"]).labels) == {"delivery", "refund"}

    path.write_text(CSV + "4,cancel my order,cancellation,eve\n")
    done = import_(str(path), *MAPS, "--wait", "60")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 labelled texts: sent to the learner; 2 were sent before; refused: 1 wrong_schema")
    piped = import_("-", "--json", stdin='{"text": "my parcel is late", "label": "delivery"}\n')
    assert json.loads(piped.stdout)["sent"] == 1, piped.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-", "--map", "text"), "has no template"),
        (("-", "--map", "txt={body}"), "did you mean 'text'?"),
        (("no/such.csv",), "no/such.csv cannot be read"),
        (("-", "--format", "parquet"), "name the file"),
    ],
)
def test_what_cannot_be_read_at_all_is_refused_before_anything_is_connected(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = lifelong("import", *words, LIFELONG_STATE_DIR=str(tmp_path))
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
