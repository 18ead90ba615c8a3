"""`lifelong migrate`: what it prints, that it rewrites the state, and when it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.services.command_line import lifelong
from tests.services.migration.states import JUDGED, TALLIES
from tests.stores import KEYS, SIGNING_KEY, publish, take_lease
from wire.config import StoreConfig
from wire.records import LearnerReport
from wire.store import Store


def test_a_state_is_looked_at_and_then_rewritten(
    store: Store, store_config: StoreConfig, raw: Any, key: Callable[..., str], tmp_path: Path
) -> None:
    publish(store, take_lease(store), 1)
    store.plans.write_evidence(TALLIES, [JUDGED], max_judged=10)
    body = b'{"offsets":7}'
    raw.hset(key("evidence"), mapping={"body": body, "signature": KEYS.sign(body, key("evidence"))})
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

    def verdicts(*words: str) -> dict[str, str]:
        return {row["name"]: row["verdict"] for row in run(*words)["findings"]}

    dry = verdicts("--dry-run")
    assert (dry["tallies"], dry["manifest of version 1"]) == ("rewritten", "read as it is")
    assert verdicts("--dry-run") == dry
    store.reports.write_learner(LearnerReport(learner="l1", state="learning", time_ms=1))
    assert "would write in between" in run(code=2)
    raw.delete(key("learner"))
    assert verdicts() == dry
    assert "tallies" not in verdicts()
