"""The world of a rollout controller, and a controller that leads in it."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from typing import TypeAlias

import msgspec

from rollout.config import RolloutConfig
from rollout.controller import Controller
from rollout.decider import Decider
from rollout.judge import Judge
from rollout.tallies import TalliesState
from tests.stores import SIGNING_KEY, build_manifest
from wire.bus import Bus, Publisher
from wire.config import TrustConfig
from wire.draws import arm_for
from wire.kinds import name_hash
from wire.receipts import Receipts, Verdicts
from wire.records import CANDIDATE, STABLE, Answer, ArmName, Feedback, NameChanges, RolloutPlan
from wire.store import Lease, Store
from wire.timestamps import now_ms

CONFIG = RolloutConfig(ramp=(0.1, 0.3), ramp_answers=10, lease_ms=600)
DEADLINE_S = 20.0
NO_CHANGES = NameChanges()
Right: TypeAlias = dict[ArmName, bool]
"""Which arms name the right label."""
RECEIPTS = Receipts(SIGNING_KEY)
REFUSAL = partial(RECEIPTS.refusal, is_required=False, max_age_ms=1e9)

_numbers = count()


class World:
    """The world of a controller: a learner that publishes, replicas that answer, and people who label."""

    def __init__(self, store: Store, publisher: Publisher) -> None:
        self.store = store
        self._publisher = publisher
        self._due: deque[tuple[float, Feedback]] = deque()
        self._lease: Lease
        self.lead()

    def lead(self) -> None:
        """Takes the learner's lease."""
        lease = self.store.leases.acquire("learner", "test", 60_000)
        assert lease is not None
        self._lease = lease

    def publish(self, *, erased: int = 0, size: int = 10, changes: NameChanges = NO_CHANGES) -> int:
        """Publishes the next version from the current one, with a blob of `size` bytes; returns its number."""
        versions = self.store.versions
        version = versions.next_number()
        data = b"%010d" % version * (size // 10)
        manifest = build_manifest(self.store, version, epoch=self._lease.epoch, parent=versions.current(), data=data)
        versions.publish(msgspec.structs.replace(manifest, erased=erased, name_changes=changes), self._lease)
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

    def saved(self) -> TalliesState:
        """Returns the tallies that are in the store: those of nothing where there are none."""
        return self.store.plans.read_evidence(TalliesState) or TalliesState()

    def evidence_labels(self) -> int:
        """Returns the number of labels for the candidate."""
        report = self.store.reports.controller()
        found = re.search(r"(\d+) won, (\d+) tied, (\d+) lost", report.evidence) if report else None
        return sum(map(int, found.groups())) if found else 0

    def answer(self, events: int, *, right: Right, source: str = "test", labels_after_s: float = 0.0) -> None:
        """Answers events under the plan in force, and lets `source` label them; `right` says which arms are right.

        The versions that answer no traffic name what the stable version names. Before each label comes a forged one
        that contradicts it, and must not count.
        """
        plan = self.store.plans.read()
        assert plan is not None
        named = {version: right[STABLE] for version in plan.needed}
        named |= {arm.version: right.get(arm.name, right[STABLE]) for arm in plan.arms}
        named |= {plan.candidate: right[CANDIDATE]} if plan.candidate else {}
        for number in (next(_numbers) for _ in range(events)):
            answer = make_answer(f"event-{number}", plan, {version: named[version] for version in sorted(named)})
            self._publisher.send(answer)
            self._due.append((time.monotonic() + labels_after_s, label_of(answer, source=source)))
        self.label_what_is_due()

    def label_what_is_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            label = self._due.popleft()[1]
            self._publisher.send(msgspec.structs.replace(label, label="no", receipt=label.receipt[:-1] + "x"))
            self._publisher.send(label)
        self._publisher.flush(10.0)

    def answer_until(self, wanted: Callable[[RolloutPlan], bool], *, right: Right, source: str = "test") -> RolloutPlan:
        """Answers until the plan is as wanted, since the judge begins at the end of the topics at an unknown time."""
        deadline = time.monotonic() + DEADLINE_S
        while (plan := self.store.plans.read()) is None or not wanted(plan):
            assert time.monotonic() < deadline, plan
            self.answer(50, right=right, source=source)
        return plan

    def actions(self, *wanted: str) -> Sequence[tuple[int, str]]:
        """Returns the decisions in their order; by default those by which versions came to be, or ceased, stable."""
        decisions = self.store.plans.decisions.since(0, 1_000)[::-1]
        wanted = wanted or ("promoted", "withdrawn", "rolled_back", "pinned")
        return [(decision.version, decision.action) for decision in decisions if decision.action in wanted]


def make_answer(
    event_id: str,
    plan: RolloutPlan,
    named: Mapping[int, bool],
    *,
    has_own_encoder: bool = False,
    time_ms: int | None = None,
) -> Answer:
    """Returns an answer under `plan`; `named` says of each version at hand, in rising order, whether it is right.

    `has_own_encoder` says that the version that answers shares its encoder with no other.
    """
    arm = arm_for(event_id, plan)
    judged = {arm.version: named[arm.version]} if has_own_encoder else named
    names = tuple((version, name_hash("yes" if is_right else "no")) for version, is_right in judged.items())
    moment_ms = now_ms() if time_ms is None else time_ms
    verdicts = Verdicts(arm.name, arm.version, names)
    return Answer(
        event_id=event_id,
        text="text",
        label="yes" if named[arm.version] else "no",
        score=0.9,
        weights_version=arm.version,
        arm=arm.name,
        precision="int8",
        rollout_revision=plan.revision,
        time_ms=moment_ms,
        receipt=RECEIPTS.of(event_id, time_ms=moment_ms, entity=event_id, verdicts=verdicts),
    )


def label_of(answer: Answer, *, source: str, label: str = "yes", receipt: str | None = None) -> Feedback:
    """Returns a label of an answer, by default the right one, as `source` says it; and with the answer's receipt."""
    receipt = answer.receipt if receipt is None else receipt
    return Feedback(event_id=answer.event_id, label=label, source=source, receipt=receipt)


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
