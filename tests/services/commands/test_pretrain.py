"""Tests `lifelong pretrain --from-topic`: the events of a service, without those of forgotten subjects."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.members.texts import SEEN
from tests.learner.small_learner import SUBJECT_DIGEST
from tests.stores import SIGNING_KEY
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.records import Erase, Event
from wire.store import Store

pytestmark = [pytest.mark.live, pytest.mark.parametrize("broker", ["tansu"], indirect=True)]


def test_events_are_learnt_once_and_not_those_of_the_forgotten(
    bus: Bus, store: Store, bus_config: BusConfig, store_config: StoreConfig, tmp_path: Path
) -> None:
    texts = [f"where is parcel number {number}" for number in range(30)]
    events = [Event(id=f"e{number}", text=text, key=f"customer-{number % 3}") for number, text in enumerate(texts)]
    # A flood of one text.
    events += [Event(id=f"f{number}", text=texts[0].upper(), key="customer-0") for number in range(50)]
    bus.publisher().send_all(events, 30)
    store.commands.append(Erase(digest=SUBJECT_DIGEST("customer-1")))
    environ = {
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": bus_config.bootstrap_servers,
        "LIFELONG_BUS__PREFIX": bus_config.prefix,
    }
    command = [sys.executable, "-m", "services.cli", "pretrain", "--from-topic", "--tokens", "200", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environ, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    counts = {name: made["texts"][name] for name in ("read", "repeated", "forgotten", "used")}
    assert counts == {"read": 80, "repeated": 50, "forgotten": 10, "used": 20}
    subjects = json.loads((Path(made["folder"]) / SEEN).read_text())["subjects"]
    assert subjects == {SUBJECT_DIGEST("customer-0"): 10, SUBJECT_DIGEST("customer-2"): 10}
