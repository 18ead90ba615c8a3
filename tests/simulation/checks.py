"""The invariants that are checked all along, and what must be true once the faults are over."""

from collections import Counter, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from kafka import TopicPartition  # type: ignore[import-untyped]

from learner.samples import HoldoutDraw, Labelled
from tests.simulation.broker import Stored
from tests.simulation.clients import SOURCES
from tests.simulation.ledger import Happened, Violation
from tests.simulation.programs import LEARNER, RING
from wire.bus import partition_name
from wire.envelope import from_message
from wire.inputs import encoded
from wire.keyring import subject_digest
from wire.message import Place
from wire.records import (
    Answer,
    Command,
    CommandOutcome,
    Event,
    Feedback,
    Quarantined,
    RolloutPlan,
    TopicRecord,
    WeightManifest,
)
from wire.store import keys
from wire.store.signed import decode, decode_manifest, split_entry

if TYPE_CHECKING:
    from tests.simulation.world import World

PREFIX: Final = b"lifelong:"
MANIFESTS: Final = PREFIX + keys.MANIFEST.encode()

READ_S: Final = 8.0
"""Longest time that a label may lie in its topic, once the faults are over, until the learner has read it."""

NUM_TOLD: Final = 8
"""Nobody guesses so many events of the holdout by chance: a tenth of all events is drawn."""


class Checks:
    """Looks at a world from outside: at the data of the store, the logs, the disk and what the learner remembers."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._ledger = world.ledger
        self._ends: deque[tuple[float, dict[TopicPartition, int]]] = deque()  # of the logs of labels, newest last
        # The message is held with its record, so that no other one gets its id.
        self._decoded_by_id: dict[int, tuple[Stored, Any]] = {}

    def look(self) -> None:
        """Raises Violation where an invariant does not hold now."""
        self.look_at_store()
        self._look_for_erased()
        self._look_at_memory()
        self._look_at_judge()
        self._look_for_unread()

    def look_at_end(self) -> None:
        """Raises Violation where something about an erased subject is left, though the store says that nothing is."""
        self.look()
        self._look_at_holdout()
        files = {path.name: path.read_bytes() for path in self._world.disk.folder.iterdir()}
        model = self._world.redis.model
        files |= {key.decode(): model.value(key)[b"body"] for key in model.keys if key.startswith(MANIFESTS)}
        for subject in self._purged():
            texts = [each.text.encode() for each in self._ledger.events.values() if each.key == subject]
            found: set[str] = set()
            for text in texts:
                found.update(name for name, data in files.items() if text in data)
            if found:
                raise Violation(f"{subject} is erased everywhere, it is said, and is in {sorted(found)}")

    def look_at_store(self) -> None:
        """Checks that a number names one version, and that the plan names stored ones."""
        stored = self._manifests()
        for manifest in stored.values():
            self._ledger.saw(manifest)
        plan = self._plan()
        missing = [] if plan is None else sorted(set(plan.needed) - stored.keys() - {0})
        if missing:
            raise Violation(f"the plan of revision {plan.revision if plan else 0} names {missing}, which is not stored")

    def _look_at_memory(self) -> None:
        """Checks that no label was learnt twice."""
        twice = [text for text, num in Counter(self._texts()).items() if num > 1]
        if twice:
            raise Violation(f"learnt twice: {self._told(twice)}")

    def _look_for_erased(self) -> None:
        """Checks that the learner holds nothing about a subject whose erasure it knows and has carried out."""
        learner = self._world.learner
        if learner is None or learner.erased.is_due:
            return
        subjects = {sample.subject for sample in self._memory()}
        held = sorted(subject for subject in subjects - {""} if self._digest(subject) in learner.erased)
        if held:
            raise Violation(f"erased subjects are in the learner's memory: {held}")

    def _look_at_judge(self) -> None:
        """Checks that a label that waits for its answer has left its text behind."""
        decider = self._world.decider
        waiting = decider._join._labels.values() if decider is not None else ()
        with_text = [label.event_id for label in waiting if label.text]
        if with_text:
            raise Violation(f"the judge keeps the texts of {with_text}")

    def _look_for_unread(self) -> None:
        """Checks that each label is read soon once the faults are over, also while late labels are looked up."""
        now_s = self._world.scheduler.now_s
        if now_s < self._world.calm_since_s:
            return
        logs = self._world.broker.logs.items()
        self._ends.append((now_s, {partition: log.end for partition, log in logs if partition.topic == Feedback.TOPIC}))
        if now_s - self._ends[0][0] < READ_S:
            return
        _, ends = self._ends.popleft()
        read = self._world.learner.offsets if self._world.learner is not None else {}
        unread = [f"{name}@{read.get(name, 0)}" for name, end in _named(ends) if read.get(name, 0) < end]
        if unread:
            raise Violation(f"labels have not been read for {READ_S} s: the learner is at {unread}")

    def _look_at_holdout(self) -> None:
        """Checks that somebody who knows the code but no secret cannot tell the events of the holdout."""
        learner = self._world.learner
        assert learner is not None
        held = {encoded(sample.text) for sample in learner.knowledge.holdout.samples.samples()}
        draw = HoldoutDraw(LEARNER.holdout_share)
        ids = [each.event_id for each in self._ledger.events.values() if each.text in held]
        told = [event_id for event_id in ids if any(draw((source, event_id)) for source in SOURCES)]
        if len(told) == len(ids) >= NUM_TOLD:
            raise Violation(f"anybody can tell the {len(told)} events of the holdout")

    def _purged(self) -> list[str]:
        """Returns the subjects of which the store says that no version and no checkpoint knows them."""
        model = self._world.redis.model
        outcomes = model.value(PREFIX + keys.OUTCOMES.encode()) or {}
        gone = set[str]()
        for entry in model.value(PREFIX + keys.COMMANDS.encode()) or {}:
            command = decode(split_entry(entry)[0], Command, keys.COMMANDS)
            body = outcomes.get(b"%d" % command.seq)
            if body is not None and decode(body, CommandOutcome, keys.OUTCOMES).state == "purged":
                gone.add(str(command.body.get("digest", "")))
        return [subject for subject in self._world.clients.erased if self._digest(subject) in gone]

    def _digest(self, subject: str) -> str:
        return subject_digest(RING.subject, subject)

    def unsettled(self) -> str:
        """Returns what has not got its end yet; "" where everything has."""
        if self._world.clients.num_open:
            return f"{self._world.clients.num_open} records wait for the broker"
        return self._unanswered() or self._unlearnt() or self._unserved() or self._unerased()

    def _unanswered(self) -> str:
        events = self._records(Event)
        missing = [event.id for event in events if not self._ledger.events[event.id].answers]
        return f"{len(missing)} of {len(events)} events have no answer: {missing[:5]}" if missing else ""

    def _unlearnt(self) -> str:
        """Returns the labels in the log that are neither learnt nor refused."""
        learner = self._world.learner
        if learner is None or not learner.progress.num_labels:
            return "nothing is learnt"
        known = set(self._texts())
        answered = {answer.receipt for answer in self._records(Answer)}
        refused = {label.event_id for label in self._records(Quarantined)}
        erased = self._world.clients.erased
        missing: list[Happened] = []
        for label in self._records(Feedback):
            happened = self._ledger.events[label.event_id]
            is_due = label.receipt in answered or bool(label.text)
            if is_due and happened.key not in erased and happened.event_id not in refused:
                missing += [happened] if happened.text not in known else []
        if not missing or learner.counts["set_aside"]:
            return ""
        return f"{len(missing)} labels are not learnt: {self._told([each.text for each in missing])}"

    def _unserved(self) -> str:
        """Returns why what is known is not what answers."""
        learner = self._world.learner
        plan = self._plan()
        assert learner is not None
        if plan is None:
            return "there is no plan"
        if learner.progress.num_effects != learner.progress.published_effects:
            return "what was learnt is not published"
        for name, replica in self._world.replicas.items():
            live = replica.engine.live
            if live is None or live.plan.revision != plan.revision:
                return f"{name} does not follow revision {plan.revision}"
        return ""

    def _unerased(self) -> str:
        """Returns the subjects that asked to be forgotten, and are not out of what answers."""
        learner = self._world.learner
        assert learner is not None
        free = {command.body.get("digest") for command, outcome in learner.commands if outcome and outcome.version}
        waiting = [subject for subject in self._world.clients.erased if self._digest(subject) not in free]
        return f"{waiting} are not erased" if waiting else ""

    def _told(self, texts: list[str]) -> str:
        """Returns where the records of the first events with these texts lie, for whoever replays the seed."""
        by_text = {each.text: each for each in self._ledger.events.values()}
        told: list[str] = []
        for event_id in [by_text[text].event_id for text in texts[:3] if text in by_text]:
            places = [f"{name}@{offset}" for name, offset, record in self._placed() if record.event_id == event_id]
            told.append(f"{event_id} ({', '.join(places)})")
        learner = self._world.learner
        read = {**learner.offsets, **learner.join.counts, **learner.join.late.counts} if learner else {}
        return f"{'; '.join(told)}. The learner has read {read}"

    def _placed(self) -> Iterator[tuple[str, int, Any]]:
        """Yields the answers and labels that the broker has, each with its partition and its offset."""
        for record_type in (Answer, Feedback):
            for partition, log in self._world.broker.logs.items():
                if partition.topic == record_type.TOPIC:
                    for offset, stored in enumerate(log.records):
                        yield partition_name(partition), offset, self._decoded(record_type, partition, stored)

    def _texts(self) -> list[str]:
        return [encoded(sample.text) for sample in self._memory()]

    def _memory(self) -> list[Labelled]:
        learner = self._world.learner
        if learner is None:
            return []
        return [*learner.replay.samples(), *learner.knowledge.holdout.samples.samples()]

    def _manifests(self) -> dict[int, WeightManifest]:
        found: dict[int, WeightManifest] = {}
        model = self._world.redis.model
        for key in model.keys:
            name = key.removeprefix(PREFIX).decode()
            if name.startswith(f"{keys.MANIFEST}:"):
                number = int(name.partition(":")[2])
                found[number] = decode_manifest(model.value(key)[b"body"], number)
        return found

    def _plan(self) -> RolloutPlan | None:
        stored = self._world.redis.model.value(PREFIX + keys.PLAN.encode())
        return None if stored is None else decode(stored[b"body"], RolloutPlan, "plan")

    def _records(self, record_type: type[TopicRecord]) -> list[Any]:
        """Returns the records of a topic that the broker has."""
        found: list[Any] = []
        for partition, log in self._world.broker.logs.items():
            if partition.topic == record_type.TOPIC:
                found += [self._decoded(record_type, partition, each) for each in log.records]
        return found

    def _decoded(self, record_type: type[TopicRecord], partition: TopicPartition, stored: Stored) -> Any:
        """Returns the record of a message. Each message is decoded once: most are looked at many times."""
        known = self._decoded_by_id.get(id(stored))
        if known is None:
            place = Place(topic=partition.topic, partition=partition.partition, offset=0)
            known = (stored, from_message(record_type, stored.message, place))
            self._decoded_by_id[id(stored)] = known
        return known[1]


def _named(ends: dict[TopicPartition, int]) -> Iterator[tuple[str, int]]:
    return ((partition_name(partition), end) for partition, end in ends.items())
