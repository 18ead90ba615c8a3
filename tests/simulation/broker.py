"""The simulated Kafka broker: topics with logs, leader epochs, consumer groups, and what a power cut or election takes.

    append --> log, in the memory of the broker --sync, now and then--> disk
    power cut: what is not on the disk is gone        unclean election: the same, by another leader

Every log has a tail of its own that the disk lacks, that of the committed offsets too. So a group may have committed
offsets of events that the broker does not have any more.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from kafka import TopicPartition  # type: ignore[import-untyped]

from tests.simulation.network import Network
from tests.simulation.scheduler import Scheduler, Task
from tests.simulation.server import EPOCH_MS
from wire.message import Message

KAFKA: Final = "kafka"
TIMED_BY_BROKER: Final = ("answers.v1", "feedback.v1")


@dataclass(frozen=True, slots=True)
class Stored:
    """A record in a log. `epoch` is that of the leader that wrote it, `appended_ms` 0 where senders set the times."""

    message: Message
    epoch: int
    appended_ms: int


class Log:
    """One partition. `offset` counts from `start`, below which retention has removed everything."""

    def __init__(self) -> None:
        self.records: list[Stored] = []
        self.start = 0
        self.num_synced = 0
        self.epoch = 0

    @property
    def end(self) -> int:
        return len(self.records)

    def find_end(self, epoch: int) -> int:
        """Returns the offset behind the last record that a leader of this epoch, or one before it, has written."""
        return next((offset for offset, each in enumerate(self.records) if each.epoch > epoch), self.end)

    def cut(self, end: int) -> list[Stored]:
        """Loses the records from `end` on; the next leader begins an epoch. Returns what is lost."""
        lost = self.records[end:]
        del self.records[end:]
        self.num_synced = min(self.num_synced, end)
        self.epoch += 1
        return lost


@dataclass
class Group:
    """A consumer group: the committed offsets with leader epochs, those on the disk; when each member polled, the
    generation since which it is one, and who has joined the one that begins."""

    committed: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)
    synced: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)
    members: dict[str, float] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    joined: set[str] = field(default_factory=set)
    generation: int = 0

    def keep(self, member: str, now_s: float, session_s: float) -> None:
        """Takes a heartbeat; begins a generation where a member is new, or one has not polled for a session."""
        dead = [each for each, seen_s in self.members.items() if now_s - seen_s > session_s]
        for each in dead:
            del self.members[each]
        if dead or member not in self.members:
            self._begin_generation()
        if member not in self.members:
            self.since[member] = self.generation
        self.members[member] = now_s

    def leave(self, member: str) -> None:
        if self.members.pop(member, None) is not None:
            self._begin_generation()

    def _begin_generation(self) -> None:
        self.generation += 1
        self.joined.clear()


class Broker:
    """The one broker of a world. `on_cut` is told of lost records, `on_commit` of commits, `on_commits_lost` of what is
    left of them."""

    def __init__(
        self,
        scheduler: Scheduler,
        network: Network,
        *,
        partitions: int,
        topics: tuple[str, ...],
        flushes_always: bool,
    ) -> None:
        self.scheduler = scheduler
        self.network = network
        self.skew_ms = 0
        self.partitions = partitions
        self.flushes_always = flushes_always
        self.ids: dict[str, UUID] = {}
        self.logs: dict[TopicPartition, Log] = {}
        self.groups: dict[str, Group] = {}
        self._readers: dict[Task, Container[TopicPartition]] = {}  # those that wait for a record, and where
        self.on_cut: Callable[[TopicPartition, list[Stored]], None] = lambda partition, lost: None
        self.on_commits_lost: Callable[[Mapping[TopicPartition, tuple[int, int]]], None] = lambda left: None
        self.on_commit: Callable[[TopicPartition, int, int], None] = lambda partition, offset, epoch: None
        for topic in topics:
            self.create(topic)

    def now_ms(self) -> int:
        return EPOCH_MS + int(1e3 * self.scheduler.now_s) + self.skew_ms

    def create(self, topic: str) -> None:
        """Makes a topic, or makes it anew."""
        self.ids[topic] = UUID(int=self.scheduler.rng.getrandbits(128))
        for number in range(self.partitions):
            self.logs[TopicPartition(topic, number)] = Log()

    def append(self, partition: TopicPartition, message: Message) -> int:
        """Appends a record; returns its offset."""
        log = self.logs[partition]
        appended_ms = self.now_ms() if partition.topic in TIMED_BY_BROKER else 0
        log.records.append(Stored(message, log.epoch, appended_ms))
        if self.flushes_always:
            log.num_synced = log.end
        for task, partitions in self._readers.items():
            if partition in partitions:
                self.scheduler.wake(task)
        return log.end - 1

    def wait_for_record(self, partitions: Container[TopicPartition], timeout_s: float) -> None:
        """Lets the current task wait until one of the partitions gets a record, at most for so long. Raises Killed."""
        task = self.scheduler.current
        assert task is not None
        self._readers[task] = partitions
        try:
            self.scheduler.pause(timeout_s)
        finally:
            del self._readers[task]

    def sync(self) -> None:
        """Writes to the disk what the memory has, of some logs, as an operating system does when it likes."""
        rng = self.scheduler.rng
        for log in self.logs.values():
            if rng.random() < 0.5:
                log.num_synced = rng.randint(log.num_synced, log.end)
        for group in self.groups.values():
            if rng.random() < 0.5:
                group.synced = dict(group.committed)

    def cut_power(self) -> int:
        """Loses what is not on the disk; returns how many records."""
        num_lost = 0
        for partition, log in self.logs.items():
            num_lost += self._cut(partition, self.scheduler.rng.randint(log.num_synced, log.end))
        for group in self.groups.values():
            if self.scheduler.rng.random() < 0.5:
                group.committed = dict(group.synced)
                self.on_commits_lost(group.committed)
            for member in list(group.members):
                group.leave(member)
        self.scheduler.note(f"kafka loses {num_lost} records")
        return num_lost

    def elect(self, partition: TopicPartition, *, is_clean: bool) -> int:
        """Gives a partition another leader, which lacks the newest records if it was not in sync."""
        log = self.logs[partition]
        end = log.end if is_clean else self.scheduler.rng.randint(log.num_synced, log.end)
        num_lost = self._cut(partition, end)
        self.scheduler.note(f"kafka elects for {partition.topic}/{partition.partition}, loses {num_lost}")
        return num_lost

    def assignment(self, group: Group, member: str) -> set[TopicPartition]:
        """Returns the partitions of a member: they go round."""
        members = sorted(group.members)
        topic = "events.v1"
        mine = range(members.index(member), self.partitions, len(members))
        return {TopicPartition(topic, number) for number in mine}

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group())

    def commit(self, name: str, offsets: Mapping[TopicPartition, tuple[int, int]]) -> None:
        group = self.group(name)
        group.committed |= offsets
        if self.flushes_always:
            group.synced = dict(group.committed)
        for partition, (offset, epoch) in offsets.items():
            self.on_commit(partition, offset, epoch)

    def _cut(self, partition: TopicPartition, end: int) -> int:
        log = self.logs[partition]
        lost = log.cut(end)
        self.on_cut(partition, lost)
        return len(lost)
