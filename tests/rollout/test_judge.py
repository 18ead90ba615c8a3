"""The judge on a real broker: where it begins, what it goes on from, and what it passes over."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager

import msgspec
import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]

from rollout.decider import Decider
from rollout.judge import Judge
from rollout.tallies import TalliesState
from tests.rollout.world import CONFIG, DEADLINE_S, REFUSAL, World
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig, TrustConfig
from wire.errors import StoreUnavailable
from wire.records import CANDIDATE, STABLE, Answer, Arm, Feedback, RolloutPlan, topic_name
from wire.store import Store
from wire.timestamps import now_ms

pytestmark = pytest.mark.live

ALIKE = {STABLE: True, CANDIDATE: True}
"""Both versions name the right label: the evidence decides nothing."""


@contextmanager
def judging(store: Store, bus: Bus) -> Iterator[Judge]:
    judge = Judge(bus, Decider(store, config=CONFIG, trust=TrustConfig(), refusal=REFUSAL, now_ms=now_ms))
    try:
        yield judge
    finally:
        judge.close()


def num_judged(judge: Judge) -> int:
    """Returns the number of labels in the evidence."""
    found = re.search(r"(\d+) won, (\d+) tied, (\d+) lost", judge.state.evidence)
    return sum(map(int, found.groups())) if found else 0


def await_saved(world: World, bus: Bus) -> None:
    """Waits until the judge has written that it has read everything; at its start it does so at once."""

    def is_saved() -> bool:
        state = world.store.plans.read_evidence(TalliesState)
        return state is not None and state.offsets == bus.end_offsets(Answer, Feedback)

    eventually(is_saved, within_s=DEADLINE_S)


@pytest.fixture
def judged(world: World) -> World:
    """A world with a stable version and a candidate, each for a half of the events."""
    for _ in range(2):
        world.publish()
    arms = (Arm(name=STABLE, version=1, share=0.5), Arm(name=CANDIDATE, version=2, share=0.5))
    world.store.plans.write(RolloutPlan(revision=1, salt="s", arms=arms))
    return world


def test_it_begins_at_the_end_of_the_topics_and_another_one_goes_on_where_it_ended(judged: World, bus: Bus) -> None:
    judged.answer(30, right=ALIKE)
    with judging(judged.store, bus) as judge:
        await_saved(judged, bus)
        judged.answer(20, right=ALIKE)
        eventually(lambda: num_judged(judge) == 20, within_s=DEADLINE_S)
        await_saved(judged, bus)
    judged.answer(5, right=ALIKE)
    with judging(judged.store, bus) as judge:
        eventually(lambda: num_judged(judge) == 25, within_s=DEADLINE_S)
        assert judge.is_alive() and judge.alarms.active() == ()
    assert not judge.is_alive()


def test_a_log_that_was_cut_is_an_alarm_and_no_label_counts_twice(judged: World, bus: Bus) -> None:
    """N6: the evidence is ahead of the log, and the judge began at its end without a word, or again at its start."""
    with judging(judged.store, bus) as judge:
        await_saved(judged, bus)
        judged.answer(20, right=ALIKE)
        eventually(lambda: num_judged(judge) == 20, within_s=DEADLINE_S)
        await_saved(judged, bus)
    state = judged.store.plans.read_evidence(TalliesState)
    assert state is not None and state.marks.keys() == state.offsets.keys()
    ahead = {name: offset + 1_000 for name, offset in state.offsets.items()}
    judged.store.plans.write_evidence(msgspec.structs.replace(state, offsets=ahead), (), max_judged=1)
    with judging(judged.store, bus) as judge:
        eventually(lambda: judge.alarms.counts["log_truncated"] == len(ahead), within_s=DEADLINE_S)
        assert any(alarm.startswith("log_truncated: ") for alarm in judge.alarms.active())
        judged.answer(3, right=ALIKE)
        eventually(lambda: num_judged(judge) == 23, within_s=DEADLINE_S)


def test_what_is_no_record_is_counted_and_passed_over(judged: World, bus: Bus, bus_config: BusConfig) -> None:
    with judging(judged.store, bus) as judge:
        await_saved(judged, bus)
        with closing(
            KafkaProducer(bootstrap_servers=bus_config.bootstrap_servers, enable_idempotence=False)
        ) as producer:
            producer.send(topic_name(bus_config.prefix, Feedback), b"no record", partition=0).get(10)
        judged.answer(3, right=ALIKE)
        eventually(lambda: num_judged(judge) == 3 and judge.alarms.counts["unreadable"] == 1, within_s=DEADLINE_S)


def test_an_outage_of_the_store_is_an_alarm_until_it_is_over(
    judged: World, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    with judging(judged.store, bus) as judge:
        await_saved(judged, bus)
        with monkeypatch.context() as patched:
            patched.setattr(judged.store.plans, "read", unavailable)
            eventually(lambda: judge.alarms.active() == ("plan: StoreUnavailable: no answer",), within_s=DEADLINE_S)
        eventually(lambda: judge.alarms.active() == (), within_s=DEADLINE_S)
        judged.answer(3, right=ALIKE)
        eventually(lambda: num_judged(judge) == 3, within_s=DEADLINE_S)


def unavailable() -> None:
    raise StoreUnavailable("no answer")
