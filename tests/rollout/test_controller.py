"""The controller against a real Redis and a real broker: publish, follow, judge, promote, withdraw, roll back, pin."""

import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from rollout.config import RolloutConfig
from rollout.controller import Controller
from rollout.decider import Decider
from rollout.judge import Judge
from rollout.operator import Operator
from rollout.plans import NotPossible
from services.local.redis import LocalRedis, start_redis
from tests.stores import CONFIGURABLE, SIGNING_KEY, manifest_of, plant_plan
from tests.waiting import eventually
from wire.bus import Bus, Publisher
from wire.clock import now_ms
from wire.config import StoreConfig, TrustConfig
from wire.errors import NotFound
from wire.receipts import Receipts
from wire.records import Answer, Arm, Feedback, RolloutPlan
from wire.rollout import arm_for
from wire.store import Lease, Store

pytestmark = pytest.mark.live

CONFIG = RolloutConfig(min_labels=20, lease_ms=600)
DEADLINE_S = 20.0
REFUSAL = partial(Receipts(SIGNING_KEY).refusal, is_required=False, max_age_ms=1e9)

_numbers = count()


class World:
    """The world of a controller: a learner that publishes, replicas that answer, and people who label."""

    def __init__(self, store: Store, publisher: Publisher) -> None:
        self.store = store
        self._publisher = publisher
        self._due: deque[tuple[float, str]] = deque()
        self._lease: Lease
        self.lead()

    def lead(self) -> None:
        """Takes the learner's lease."""
        lease = self.store.leases.acquire("learner", "test", 60_000)
        assert lease is not None
        self._lease = lease

    def publish(self, *, erased: int = 0, size: int = 10) -> int:
        """Publishes the next version from the current one, with a blob of `size` bytes; returns its number."""
        versions = self.store.versions
        version = versions.next_number()
        data = b"%010d" % version * (size // 10)
        manifest = manifest_of(self.store, version, epoch=self._lease.epoch, parent=versions.current(), data=data)
        versions.publish(msgspec.structs.replace(manifest, erased=erased), self._lease)
        return version

    def until(self, wanted: Callable[[RolloutPlan], bool]) -> RolloutPlan:
        """Waits for the first plan that is as wanted, and returns it."""
        deadline = time.monotonic() + DEADLINE_S
        with closing(self.store.watch()) as watch:
            while (plan := self.store.plans.read()) is None or not wanted(plan):
                assert time.monotonic() < deadline, plan
                watch.wait(0.1)
        return plan

    def alarms(self) -> tuple[str, ...]:
        report = self.store.reports.controller()
        return report.alarms if report else ()

    def counts(self) -> dict[str, int]:
        report = self.store.reports.controller()
        return report.counts if report else {}

    def evidence_labels(self) -> int:
        """Returns the number of labels of both arms since the last decision."""
        report = self.store.reports.controller()
        return sum(int(number) for number in re.findall(r"/(\d+)", report.evidence)) if report else 0

    def answer(self, events: int, *, right: dict[str, bool], labels_after_s: float = 0.0) -> None:
        """Answers and labels events under the plan in force; `right` says which arm answers rightly.

        Before each label comes a forged one that contradicts it, and must not count.
        """
        plan = self.store.plans.read()
        assert plan is not None
        for number in (next(_numbers) for _ in range(events)):
            event_id = f"event-{number}"
            arm = arm_for(event_id, plan)
            answer = Answer(
                event_id=event_id,
                text="text",
                label="yes" if right[arm.name] else "no",
                score=0.9,
                weights_version=arm.version,
                arm=arm.name,
                precision="int8",
                rollout_revision=plan.revision,
            )
            self._publisher.send(answer)
            self._due.append((time.monotonic() + labels_after_s, event_id))
        self.label_what_is_due()

    def label_what_is_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            event_id = self._due.popleft()[1]
            self._publisher.send(Feedback(event_id=event_id, label="no", source="bot", receipt="5.ab"))
            self._publisher.send(Feedback(event_id=event_id, label="yes", source="test"))
        self._publisher.flush(10.0)

    def answer_until(self, wanted: Callable[[RolloutPlan], bool], *, right: dict[str, bool]) -> RolloutPlan:
        """Answers until the plan is as wanted, since the judge begins at the end of the topics at an unknown time."""
        deadline = time.monotonic() + DEADLINE_S
        while (plan := self.store.plans.read()) is None or not wanted(plan):
            assert time.monotonic() < deadline, plan
            self.answer(50, right=right)
        return plan

    def actions(self) -> Sequence[tuple[int, str]]:
        history = self.store.versions.history(100)
        return [(entry.version, entry.action) for entry in history if entry.action != "published"][::-1]


@pytest.fixture
def world(store: Store, bus: Bus) -> World:
    return World(store, bus.publisher())


@contextmanager
def leading(
    store: Store,
    bus: Bus,
    *,
    holder: str = "one",
    config: RolloutConfig = CONFIG,
    refusal: Callable[[Feedback], str] = REFUSAL,
) -> Iterator[None]:
    """Runs a controller in a thread."""
    stop = threading.Event()

    def open_judge() -> Judge:
        return Judge(bus, Decider(store, config=config, trust=TrustConfig(), refusal=refusal, now_ms=now_ms))

    controller = Controller(store, open_judge, config=config, holder=holder, now_ms=now_ms)
    thread = threading.Thread(target=controller.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


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


def test_first_version_is_stable_and_the_next_ones_are_candidates(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish()
        assert world.until(lambda plan: plan.stable == first).arms[0].share == 1.0
        world.publish()
        third = world.publish()
        plan = world.until(lambda plan: plan.candidate == third)
        assert (plan.stable, plan.arms[1].share) == (first, CONFIG.candidate_share)


def test_versions_that_know_somebody_erased_are_not_kept_for_being_new(world: World, bus: Bus) -> None:
    with leading(world.store, bus, config=replace(CONFIG, collect_interval_s=0.05)):
        first = world.publish()
        world.until(lambda plan: plan.stable == first)
        world.publish()
        third = world.publish(erased=1)
        world.until(lambda plan: plan.candidate == third)
        Operator(world.store, name="test").promote(third, now_ms=now_ms())
        eventually(lambda: world.store.versions.stored() == [first, third], within_s=DEADLINE_S)
        fourth = world.publish(erased=1)
        world.until(lambda plan: plan.candidate == fourth)
    assert world.store.versions.stored() == [first, third, fourth]


def test_a_candidate_follows_within_a_tenth_of_a_second(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish()
        world.until(lambda plan: plan.stable == first)
        waits = []
        for _ in range(5):
            start = time.monotonic()
            version = world.publish()
            world.until(lambda plan, version=version: plan.candidate == version)  # type: ignore[misc]
            waits.append(time.monotonic() - start)
    assert min(waits) < 0.1, waits


def test_a_good_candidate_is_promoted(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish()
        second = 0
        world.until(lambda plan: plan.stable == first)
        second = world.publish()
        world.until(lambda plan: plan.candidate == second)
        plan = world.answer_until(lambda plan: plan.stable == second, right={"stable": True, "candidate": True})
    assert (plan.candidate, plan.previous) == (0, first)
    assert world.actions() == [(first, "promoted"), (second, "promoted")]


def test_a_bad_candidate_is_withdrawn_and_the_learner_set_back(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish()
        world.until(lambda plan: plan.stable == first)
        second = world.publish()
        world.until(lambda plan: plan.candidate == second)
        plan = world.answer_until(lambda plan: not plan.candidate, right={"stable": True, "candidate": False})
        assert plan.stable == first
        assert world.store.versions.current() == first
        third = world.publish()
        assert world.until(lambda plan: plan.candidate == third).stable == first
    assert world.actions() == [(first, "promoted"), (second, "withdrawn")]


def test_labels_that_come_sixty_versions_late_promote_what_is_stored(world: World, bus: Bus) -> None:
    """B1: compressed in time: a version every 50 ms, ten collections a second, labels 3 s after their answers."""
    with leading(world.store, bus, config=replace(CONFIG, collect_interval_s=0.1, keep_versions=2)):
        first = world.publish()
        world.until(lambda plan: plan.stable == first)
        stable: list[int] = []
        while len(dict.fromkeys(stable)) < 3:
            version = world.publish()
            world.until(lambda plan, version=version: plan.candidate == version)  # type: ignore[misc]
            world.answer(4, right={"stable": False, "candidate": True}, labels_after_s=3.0)
            world.label_what_is_due()
            plan = world.store.plans.read()
            assert plan is not None
            assert {*plan.versions, plan.previous} - {0} <= set(world.store.versions.stored())
            stable.append(plan.stable)
            time.sleep(0.05)
    assert world.store.reports.controller() is not None
    assert max(stable) < version - 20, "what was promoted is as old as its labels"


def test_a_plan_that_names_what_is_not_stored_is_put_right(world: World, bus: Bus, store_config: StoreConfig) -> None:
    """B1: an earlier release left this state behind: no replica could take the stable version."""
    for _ in range(2):
        world.publish()
    plant_plan(store_config, RolloutPlan(revision=7, salt="s", arms=(Arm(name="stable", version=99, share=1.0),)))
    with leading(world.store, bus):
        plan = world.until(lambda plan: plan.revision > 7)
        assert (plan.stable, plan.candidate) == (2, 0)
        third = world.publish()
        world.until(lambda plan: plan.candidate == third)
    assert world.actions() == [(2, "promoted")]


def test_an_operator_can_leave_a_missing_version_without_a_controller(world: World, store_config: StoreConfig) -> None:
    """B1: versions that a plan or a label still needed had been collected."""
    first = world.publish()
    plant_plan(store_config, RolloutPlan(revision=7, salt="s", arms=(Arm(name="stable", version=99, share=1.0),)))
    plan = Operator(world.store, name="test").promote(first, now_ms=1)
    assert (plan.stable, plan.previous) == (first, 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_judge_that_ends_by_itself_is_started_again(world: World, bus: Bus) -> None:
    """B7: a judge that ended took the controller with it, and that the stack."""
    faults = ["once"]

    def refusal(label: Feedback) -> str:
        if faults:
            raise ValueError(faults.pop())
        return Receipts(SIGNING_KEY).refusal(label, is_required=False, max_age_ms=1e9)

    with leading(world.store, bus, refusal=refusal):
        first = world.publish()
        world.until(lambda plan: plan.stable == first)
        second = world.publish()
        world.until(lambda plan: plan.candidate == second)
        world.answer_until(lambda plan: plan.stable == second, right={"stable": True, "candidate": True})
        assert not faults
        eventually(lambda: world.counts().get("failed_judge_thread") == 1, within_s=DEADLINE_S)
        eventually(lambda: not world.alarms(), within_s=DEADLINE_S)


def test_what_goes_wrong_is_an_alarm_until_it_is_over(
    world: World, bus: Bus, raw: Any, key: Callable[..., str]
) -> None:
    """B1: the failure is logged, counted and retried; nothing ends."""
    with leading(world.store, bus, config=replace(CONFIG, collect_interval_s=0.1)):
        first = world.publish()
        world.until(lambda plan: plan.stable == first)
        plan = raw.hgetall(key("plan"))
        raw.hset(key("plan"), "signature", "of somebody else")
        eventually(lambda: "BadSignature" in " ".join(world.alarms()), within_s=DEADLINE_S)
        raw.hset(key("plan"), mapping=plan)
        eventually(lambda: not world.alarms(), within_s=DEADLINE_S)
        assert world.counts()["failed_follow"] > 0
        second = world.publish()
        world.until(lambda plan: plan.candidate == second)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LocalRedis]:
    """Yields a server that the test may stop or fill."""
    server = start_redis(tmp_path, options={**CONFIGURABLE, "appendonly": ["no"]})
    yield server
    server.stop()


@pytest.fixture
def own_world(own_server: LocalRedis, bus: Bus) -> Iterator[World]:
    with closing(Store(StoreConfig(url=own_server.url, timeout_ms=200), SIGNING_KEY)) as store:
        yield World(store, bus.publisher())


def test_a_server_that_hangs_takes_neither_the_lease_nor_the_evidence(
    own_world: World, own_server: LocalRedis, bus: Bus
) -> None:
    """B1: the server hangs longer than the lease; labels judged before still count afterwards."""
    world = own_world
    with leading(world.store, bus, config=replace(CONFIG, min_labels=1_000)):
        first = world.publish()
        world.until(lambda plan: plan.stable == first)
        second = world.publish()
        world.until(lambda plan: plan.candidate == second)
        while (before := world.evidence_labels()) < 100:
            world.answer(50, right={"stable": True, "candidate": True})
        own_server.process.send_signal(signal.SIGSTOP)
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
            newest = world.publish(size=100_000)
            world.until(lambda plan: plan.candidate == newest)


def test_a_wiped_server_is_begun_anew(world: World, bus: Bus, raw: Any, key: Callable[..., str]) -> None:
    """F26: revisions and versions begin again, and labels count again."""
    with leading(world.store, bus):
        first = world.publish()
        world.until(lambda plan: plan.stable == first)
        second = world.publish()
        world.until(lambda plan: plan.candidate == second)
        world.answer_until(lambda plan: plan.stable == second, right={"stable": False, "candidate": True})
        raw.delete(*raw.keys(key("*")))
        world.lead()
        third = world.publish()
        world.until(lambda plan: plan.stable == third)
        fourth = world.publish()
        world.until(lambda plan: plan.candidate == fourth)
        plan = world.answer_until(lambda plan: plan.stable == fourth, right={"stable": False, "candidate": True})
        assert plan.revision < 10


def test_rollback_is_one_command_and_works_without_a_controller(world: World, bus: Bus) -> None:
    with leading(world.store, bus):
        first = world.publish()
        world.until(lambda plan: plan.stable == first)
        second = world.publish()
        world.until(lambda plan: plan.candidate == second)
    operator = Operator(world.store, name="test")
    operator.promote(None, now_ms=1)
    plan = operator.rollback(now_ms=2)
    assert (plan.stable, plan.candidate, world.store.versions.current()) == (first, 0, first)
    assert world.actions()[-1] == (first, "rolled_back")


def test_nothing_changes_while_pinned(world: World, bus: Bus) -> None:
    operator = Operator(world.store, name="test")
    with leading(world.store, bus):
        first = world.publish()
        world.until(lambda plan: plan.stable == first)
        second = world.publish()
        world.until(lambda plan: plan.candidate == second)
        pinned = operator.pin(first, now_ms=1)
        third = world.publish()
        world.answer(100, right={"stable": True, "candidate": True})
        time.sleep(0.5)  # nothing tells that nothing happens
        assert world.store.plans.read() == pinned
        operator.unpin(now_ms=2)
        world.until(lambda plan: plan.candidate == third)


def test_a_second_controller_takes_over(world: World, open_store: Callable[[], Store], bus: Bus) -> None:
    with leading(open_store(), bus, holder="two"):
        with leading(world.store, bus, holder="one"):
            first = world.publish()
            world.until(lambda plan: plan.stable == first)
        second = world.publish()
        world.until(lambda plan: plan.candidate == second)


def test_an_operator_is_told_what_is_not_possible(world: World) -> None:
    operator = Operator(world.store, name="test")
    assert operator.status().plan is None
    with pytest.raises(NotPossible, match="no version was published"):
        operator.rollback(now_ms=1)
    world.publish()
    with pytest.raises(NotPossible, match="no version was published"):
        operator.pin(7, now_ms=1)


def test_an_unknown_version_cannot_be_pinned_or_promoted(world: World, bus: Bus) -> None:
    operator = Operator(world.store, name="test")
    with leading(world.store, bus):
        first = world.publish()
        world.until(lambda plan: plan.stable == first)
    with pytest.raises(NotFound):
        operator.pin(7, now_ms=1)
    with pytest.raises(NotFound):
        operator.promote(7, now_ms=1)
    with pytest.raises(NotPossible, match="no candidate"):
        operator.promote(None, now_ms=1)
