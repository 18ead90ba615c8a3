"""Tests which version answered at a moment of the past, according to the topic of answers."""

from datetime import UTC, datetime

import pytest

from services.versions_at import ArmAnswers, answered_at
from tests.rollout.joined import answer
from tests.services.command_line import lifelong
from tests.stores import SIGNING_KEY
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import CANDIDATE, STABLE
from wire.timestamps import now_ms

pytestmark = pytest.mark.live


def test_who_answered_is_counted_by_arm_and_version(bus: Bus, bus_config: BusConfig) -> None:
    began_ms = now_ms()
    publisher = bus.publisher()
    given = [(STABLE, 4, 0), (STABLE, 4, 10), (CANDIDATE, 6, 20), (STABLE, 6, 30), (STABLE, 7, 60_000)]
    for number, (arm, version, later_ms) in enumerate(given):
        publisher.send(answer(str(number), arm=arm, version=version, time_ms=began_ms + later_ms))
    publisher.flush(10.0)
    moment_ms = now_ms() + 5_000
    assert answered_at(bus, moment_ms, span_ms=30_000) == [
        ArmAnswers(STABLE, 6, 1, began_ms + 30, began_ms + 30),
        ArmAnswers(CANDIDATE, 6, 1, began_ms + 20, began_ms + 20),
        ArmAnswers(STABLE, 4, 2, began_ms, began_ms + 10),
    ]
    assert answered_at(bus, began_ms - 60_000, span_ms=30_000) == []
    environ = {
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": bus_config.bootstrap_servers,
        "LIFELONG_BUS__PREFIX": bus_config.prefix,
        "LIFELONG_STORE__URL": "redis://127.0.0.1:1",
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
    }
    moment = datetime.fromtimestamp(moment_ms / 1_000, UTC).isoformat()
    done = lifelong("versions", "at", moment, "--span", "30", **environ)
    assert "stable     version 6     1 answers" in done.stdout, done.stderr
    wrong = lifelong("versions", "at", "yesterday", **environ)
    assert wrong.returncode != 0 and "is not a time" in wrong.stderr
