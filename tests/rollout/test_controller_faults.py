"""The controller where Redis, its plan, its judge or another controller stands in the way."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from services.local.redis import LocalRedis, start_redis
from tests.rollout.world import CONFIG, DEADLINE_S, World, leading
from tests.stores import CONFIGURABLE, KEYS, SIGNING_KEY, plant_plan
from tests.waiting import eventually, suspend
from wire.bus import Bus
from wire.config import StoreConfig
from wire.receipts import Receipts
from wire.records import Arm, Feedback, RolloutPlan
from wire.store import Store

pytestmark = pytest.mark.live


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LocalRedis]:
    """Yields a server that the test may stop or fill."""
    server = start_redis(tmp_path, options={**CONFIGURABLE, "appendonly": ["no"]})
    yield server
    server.stop()


@pytest.fixture
def own_world(own_server: LocalRedis, bus: Bus) -> Iterator[World]:
    with closing(Store(StoreConfig(url=own_server.url, timeout_ms=200), KEYS)) as store:
        yield World(store, bus.publisher())


def test_a_store_that_may_evict_weights_is_led_by_nobody(
    world: World, store: Store, bus: Bus, setting: Callable[[str, object], None]
) -> None:
    setting("maxmemory-policy", "allkeys-lru")
    world.publish()
    with leading(store, bus):
        time.sleep(1.0)
        assert store.plans.read() is None
        setting("maxmemory-policy", "noeviction")
        assert world.until(lambda plan: plan.stable == 1).revision == 1


def test_a_plan_that_names_what_is_not_stored_is_put_right(world: World, bus: Bus, store_config: StoreConfig) -> None:
    """B1: an earlier release left this state behind: no replica could take the stable version."""
    for _ in range(2):
        world.publish()
    plant_plan(store_config, RolloutPlan(revision=7, salt="s", arms=(Arm(name="stable", version=99, share=1.0),)))
    with leading(world.store, bus):
        plan = world.until(lambda plan: plan.revision > 7)
        assert (plan.stable, plan.candidate) == (2, 0)
        world.publish_candidate()
    assert world.actions() == [(2, "promoted")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_judge_that_ends_by_itself_is_started_again(world: World, bus: Bus) -> None:
    """B7: a judge that ended took the controller with it, and that the stack."""
    faults = ["once"]

    def refusal(label: Feedback) -> str:
        if faults:
            raise ValueError(faults.pop())
        return Receipts(SIGNING_KEY).refusal(label, is_required=False, max_age_ms=1e9)

    with leading(world.store, bus, refusal=refusal):
        world.publish_stable()
        second = world.publish_candidate()
        world.answer_until(lambda plan: plan.stable == second, right={"stable": True, "candidate": True})
        assert not faults
        eventually(lambda: world.counts().get("failed_judge_thread") == 1, within_s=DEADLINE_S)
        eventually(lambda: not world.alarms(), within_s=DEADLINE_S)


def test_what_goes_wrong_is_an_alarm_until_it_is_over(
    world: World, bus: Bus, raw: Any, key: Callable[..., str]
) -> None:
    """B1: the failure is logged, counted and retried; nothing ends."""
    with leading(world.store, bus, config=replace(CONFIG, collect_interval_s=0.1)):
        world.publish_stable()
        plan = raw.hgetall(key("plan"))
        raw.hset(key("plan"), "signature", "of somebody else")
        eventually(lambda: "BadSignature" in " ".join(world.alarms()), within_s=DEADLINE_S)
        raw.hset(key("plan"), mapping=plan)
        eventually(lambda: not world.alarms(), within_s=DEADLINE_S)
        assert world.counts()["failed_follow"] > 0
        world.publish_candidate()


def test_a_server_that_hangs_takes_neither_the_lease_nor_the_evidence(
    own_world: World, own_server: LocalRedis, bus: Bus
) -> None:
    """B1: the server hangs longer than the lease; labels judged before still count afterwards."""
    world = own_world
    with leading(world.store, bus, config=replace(CONFIG, approval="by_hand")):
        world.publish_stable()
        world.publish_candidate()
        while (before := world.evidence_labels()) < 100:
            world.answer(50, right={"stable": True, "candidate": True})
        suspend(own_server.process.pid)
        time.sleep(3 * CONFIG.lease_ms / 1_000)
        own_server.process.send_signal(signal.SIGCONT)
        eventually(lambda: world.counts().get("failed_renew", 0) > 0 and not world.alarms(), within_s=DEADLINE_S)
        world.answer(50, right={"stable": True, "candidate": True})
        eventually(lambda: world.evidence_labels() >= before + 50, within_s=DEADLINE_S)


def test_a_full_server_is_emptied_and_the_rollout_goes_on(own_world: World, own_server: LocalRedis, bus: Bus) -> None:
    """B11: the controller could not renew its lease, so it never removed what filled the server."""
    world = own_world
    for _ in range(40):
        world.publish(size=100_000)
    with redis.Redis.from_url(own_server.url, protocol=2) as raw:
        raw.zunionstore("lifelong:blobs", {"lifelong:blobs": 0})
        raw.config_set("maxmemory", int(raw.info("memory")["used_memory"]) - 500_000)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            raw.set("anything", 1)
        with leading(world.store, bus):
            world.until(lambda plan: plan.stable == 40)
            eventually(lambda: len(world.store.versions.stored()) <= CONFIG.keep_versions, within_s=DEADLINE_S)
            world.publish_candidate(size=100_000)


def test_a_wiped_server_is_begun_anew(world: World, bus: Bus, raw: Any, key: Callable[..., str]) -> None:
    """F26: revisions and versions begin again, and labels count again."""
    with leading(world.store, bus):
        world.publish_stable()
        second = world.publish_candidate()
        world.answer_until(lambda plan: plan.stable == second, right={"stable": False, "candidate": True})
        raw.delete(*raw.keys(key("*")))
        world.lead()
        world.publish_stable()
        fourth = world.publish_candidate()
        plan = world.answer_until(lambda plan: plan.stable == fourth, right={"stable": False, "candidate": True})
        assert plan.revision < 10


def test_a_second_controller_takes_over(world: World, open_store: Callable[[], Store], bus: Bus) -> None:
    with leading(open_store(), bus, holder="two"):
        with leading(world.store, bus, holder="one"):
            world.publish_stable()
        world.publish_candidate()
