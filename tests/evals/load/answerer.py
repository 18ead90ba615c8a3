"""A service with a fixed rule, on a real broker and Redis: the first word of a text is its label, once learnt.

    events.v1 --> answers.v1        feedback.v1 --> a version per poll that brought labels, a candidate for half of all

It answers each event once, except that events in `drops` get no answer and events in `repeats` get two. With `saving`,
every label makes a version, unless the label was learnt before. If it `judges`, a candidate becomes stable after a poll
without a label.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import closing

import msgspec

from rollout.plans import PlanChange, begin, change, make_arms
from wire.bus import Bus, partition_name
from wire.draws import arm_for
from wire.records import (
    CANDIDATE,
    Answer,
    Arm,
    DeadLetter,
    Evaluation,
    Event,
    Feedback,
    PrecisionEvaluation,
    ReplicaReport,
    RolloutPlan,
    TensorEntry,
    TensorPart,
    WeightManifest,
)
from wire.store import Store
from wire.timestamps import now_ms

FIRST = WeightManifest(
    version=1,
    parent=0,
    model_spec="first word",
    config="{}",
    labels=(),
    precisions=(PrecisionEvaluation(name="int8"),),
    tensors=(),
    probes=(),
    trained_through={},
    evaluation=Evaluation(),
    epoch=0,
    created_ms=0,
)


class Answerer:
    """Runs in one thread; any thread may close it."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        *,
        drops: Collection[int] = (),
        repeats: Collection[int] = (),
        saving: bool = False,
        judges: bool = True,
    ) -> None:
        self._bus = bus
        self._store = store
        self._drops = drops
        self._repeats = repeats
        self._saving = saving
        self._judges = judges
        self._publisher = bus.publisher()
        self._closed = threading.Event()
        self._events = 0
        self._learnt: dict[int, frozenset[str]] = {}
        self._read: dict[str, int] = {}
        self._swaps = 0
        lease = store.leases.acquire("learner", "answerer", 60_000)
        assert lease is not None
        self._lease = lease
        self._newest = FIRST
        self._publish(frozenset(), {})

    def run(self) -> None:
        with closing(self._bus.follow([Event, Feedback], {})) as follower:
            while not self._closed.is_set():
                received = follower.poll(20).received
                new: set[str] = set()
                for each in received:
                    if isinstance(each.record, Feedback):
                        self._read[partition_name(each.position)] = each.position.offset + 1
                        new.add(each.record.label)
                    if self._saving:
                        self._learn(new - self._learnt[self._newest.version])
                if not self._saving:
                    self._learn(new)
                if self._judges and not new and self._plan.candidate:
                    self._change(promoted)
                for each in received:
                    if isinstance(each.record, Event):
                        self._answer(each.record)

    def close(self) -> None:
        self._closed.set()

    def _learn(self, labels: set[str]) -> None:
        if labels:
            self._publish(self._learnt[self._newest.version] | labels, self._read)

    def _answer(self, event: Event) -> None:
        arm = arm_for(event.entity, self._plan)
        word = event.text.split()[0]
        answer = Answer(
            event_id=event.id,
            source=event.source,
            text=event.text,
            label=word if word in self._learnt[arm.version] else None,
            score=1.0,
            weights_version=arm.version,
            arm=arm.name,
            precision="int8",
            rollout_revision=self._plan.revision,
            time_ms=now_ms(),
        )
        if self._events not in self._drops:
            self._publisher.send(answer)
        if self._events in self._repeats:
            self._publisher.send(answer)
        self._events += 1

    def _publish(self, learnt: frozenset[str], through: Mapping[str, int]) -> None:
        version = self._store.versions.next_number()
        self._learnt[version] = learnt
        digest = self._store.blobs.put(msgspec.json.encode(sorted(learnt)))
        tensor = TensorEntry(
            name="words",
            scheme="w8c",
            digest=digest,
            num_bytes=len(msgspec.json.encode(sorted(learnt))),
            parts=(TensorPart(name="q", dtype="I8", shape=(4, 2)),),
        )
        self._newest = msgspec.structs.replace(
            FIRST,
            version=version,
            parent=version - 1,
            labels=tuple(sorted(learnt)),
            tensors=(tensor,),
            trained_through=dict(through),
            epoch=self._lease.epoch,
            created_ms=now_ms(),
        )
        self._store.versions.publish(self._newest, self._lease)
        self._change(lambda plan: followed(plan, version))

    def _change(self, step: Callable[[RolloutPlan | None], PlanChange | None]) -> None:
        plan = change(self._store.plans, step)
        assert plan is not None
        self._plan = plan
        self._report(plan)

    def _report(self, plan: RolloutPlan) -> None:
        self._swaps += 1
        report = ReplicaReport(
            replica="answerer",
            revision=plan.revision,
            versions=plan.versions,
            time_ms=now_ms(),
            swaps=self._swaps,
            swap_stalls_ms=(0.25,),
            swap_pauses_ms=(0.125,),
        )
        self._store.reports.write_replica(report)


def refuse_one(bus: Bus) -> None:
    """Publishes a dead letter, which the demo counts."""
    letter = DeadLetter(reason="empty", detail="", topic=Event.TOPIC, partition=0, offset=0, payload=b"")
    bus.publisher().send(letter)


def followed(plan: RolloutPlan | None, version: int) -> PlanChange | None:
    """Makes `version` the candidate for half of all events. The first version answers all events."""
    if plan is None:
        return begin(version, salt="s", now_ms=now_ms())
    if version in plan.versions:
        return None
    arms = make_arms(plan.stable, Arm(name=CANDIDATE, version=version, share=0.5))
    return PlanChange(msgspec.structs.replace(plan, revision=plan.revision + 1, arms=arms, time_ms=now_ms()))


def promoted(plan: RolloutPlan | None) -> PlanChange:
    """Lets the candidate answer all events."""
    assert plan is not None
    arms = make_arms(plan.candidate)
    return PlanChange(msgspec.structs.replace(plan, revision=plan.revision + 1, arms=arms, time_ms=now_ms()))
