"""The world of a rollout controller, and a controller that leads in it."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import count

import msgspec

from rollout.config import RolloutConfig
from rollout.controller import Controller
from rollout.decider import Decider
from rollout.judge import Judge
from tests.stores import SIGNING_KEY, manifest_of
from wire.bus import Bus, Publisher
from wire.clock import now_ms
from wire.config import TrustConfig
from wire.receipts import Receipts
from wire.records import Answer, Feedback, RolloutPlan
from wire.rollout import arm_for
from wire.store import Lease, Store

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

    def publish_stable(self) -> int:
        """Publishes a version, and waits until it is the stable one, as the first version is at once."""
        version = self.publish()
        self.until(lambda plan: plan.stable == version)
        return version

    def publish_candidate(self, *, erased: int = 0, size: int = 10) -> int:
        """Publishes a version, and waits until it is the candidate."""
        version = self.publish(erased=erased, size=size)
        self.until(lambda plan: plan.candidate == version)
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
