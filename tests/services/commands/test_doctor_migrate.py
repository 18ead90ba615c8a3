"""`lifelong migrate`: what it says, that it does it, and when it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

from learner.state.snapshot import FORMAT, decode
from tests.services.command_line import lifelong
from tests.services.migration.states import CHECKPOINTS
from tests.stores import SIGNING_KEY, lease_of, publish
from wire.config import StoreConfig
from wire.records import LearnerReport
from wire.store import Store

NAME = "000000001-e1-v3.checkpoint"


def test_a_state_is_looked_at_and_then_rewritten(store: Store, store_config: StoreConfig, tmp_path: Path) -> None:
    publish(store, lease_of(store), 1)
    (tmp_path / "learner").mkdir()
    path = tmp_path / "learner" / NAME
    shutil.copy(CHECKPOINTS / "checkpoint.v2", path)
    environ = {
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
    }

    def run(*words: str, code: int = 0) -> Any:
        done = lifelong("migrate", "--json", *words, **environ)
        assert done.returncode == code, done.stderr
        return done.stderr if code == 2 else json.loads(done.stdout)

    dry = run("--dry-run")
    verdicts = {row["name"]: row["verdict"] for row in dry["findings"]}
    assert dry["dry_run"] and verdicts[NAME] == "rewritten" and verdicts["manifest of version 1"] == "read as it is"
    assert decode(path.read_bytes()).facts.format == 2
    store.reports.write_learner(LearnerReport(learner="l1", state="learning", time_ms=1))
    assert "would write in between" in run(code=2)
    store.dump.clear()
    shown = lifelong("migrate", **environ).stdout
    assert shown == f"{NAME:<34} checkpoint 2       rewritten: as checkpoint {FORMAT}\n"
    assert decode(path.read_bytes()).facts.format == FORMAT
