"""`lifelong commands list` shows what was asked for and what became of it; `versions repair` asks, and waits."""

import json
import threading

import pytest

from rollout.operator import Operator
from rollout.plans import begin
from tests.services.command_line import lifelong
from tests.stores import SIGNING_KEY, publish, take_lease
from tests.waiting import eventually
from wire.config import StoreConfig
from wire.records import CommandOutcome, EncoderOffer, Erase, LabelCommand, Repair
from wire.store import Store

pytestmark = pytest.mark.live


@pytest.fixture
def environ(store_config: StoreConfig) -> dict[str, str]:
    return {
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": "127.0.0.1:9",  # nobody asks it
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
    }


def test_all_that_was_asked_for_is_listed_with_its_outcome(store: Store, environ: dict[str, str]) -> None:
    assert "There are no commands yet" in lifelong("commands", "list", **environ).stdout
    publish(store, take_lease(store), 2)
    store.commands.append(Erase(digest="d" * 32), source="anna", time_ms=1)
    store.commands.append(LabelCommand(number=1, action="rename", labels=("bill",), to=("invoice",)), source="bert")
    store.commands.append(EncoderOffer(id="a", name="tiny", time_ms=1), source="anna")
    store.commands.note(
        [
            CommandOutcome(seq=1, time_ms=2, state="published", version=2, numbers={"replay": 7, "holdout": 0}),
            CommandOutcome(seq=3, time_ms=2, state="refused", version=2, reasons=("collapsed",)),
        ]
    )
    store.plans.write(begin(1, salt="s", now_ms=1).plan)
    Operator(store, name="anna").promote(2, now_ms=5)
    lines = lifelong("commands", "list", **environ).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4"]
    assert f"erase     {'d' * 32} by anna: published (version 2) 7 replay" in lines[0]
    assert "relabel   rename bill -> invoice by bert: waits for a learner" in lines[1]
    assert "adopt     tiny by anna: refused (version 2) collapsed" in lines[2]
    assert "promote   2 by anna: done (version 2)" in lines[3]
    last = json.loads(lifelong("commands", "list", "--json", "--limit", "1", **environ).stdout)
    assert [(each["verb"], each["outcome"]["state"]) for each in last] == [("promote", "done")]


def test_a_repair_is_asked_for_and_says_what_was_found(store: Store, environ: dict[str, str]) -> None:
    publish(store, take_lease(store), 1)
    asked = lifelong("versions", "repair", "--no-wait", "--json", **environ)
    assert asked.returncode == 0 and json.loads(asked.stdout) == {"command": 1}, asked.stderr
    (command,) = store.commands.read()
    assert command.read(Repair).digests == tuple(sorted(entry.digest for entry in store.versions.manifest(1).tensors))

    def answer() -> None:
        eventually(lambda: len(store.commands.read()) == 2, within_s=60)
        store.commands.note([CommandOutcome(seq=2, time_ms=1, state="done", numbers={"sound": 3, "not_at_hand": 1})])

    learner = threading.Thread(target=answer)
    learner.start()
    done = lifelong("versions", "repair", "1", "--timeout", "60", **environ)
    learner.join()
    assert (done.returncode, done.stdout) == (1, "Version 1: 3 sound, 0 repaired, 1 not at hand.\n"), done.stderr
