"""What has happened in a world, as the world knows it, and what must be true of it: the invariants.

    replicas, clients, the store --saw, answered, labelled--> Ledger --check, at any time; is_settled, after the faults

A breach raises `Violation`, which ends the simulation of a seed.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b

from kafka import TopicPartition  # type: ignore[import-untyped]

from wire.records import Answer, WeightManifest
from wire.store.signed import encode


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass
class Happened:
    """What has happened to one event: `answers` are those that the broker has acknowledged."""

    event_id: str
    text: str
    key: str
    label: str
    answers: list[Answer] = field(default_factory=list)
    num_labels: int = 0
    is_refused: bool = False


class Ledger:
    """Knows the events by their id, the versions by their number, and how far the group has committed."""

    def __init__(self) -> None:
        self.events: dict[str, Happened] = {}
        self.versions: dict[int, str] = {}
        self.counts: Counter[str] = Counter()
        self.committed: dict[TopicPartition, int] = {}
        self._revisions: defaultdict[str, tuple[str, int, int]] = defaultdict(lambda: ("", 0, 0))

    def saw(self, manifest: WeightManifest) -> None:
        """Takes note of a version that somebody has published or read: its number is that of no other one."""
        digest = blake2b(encode(manifest), digest_size=8).hexdigest()
        known = self.versions.setdefault(manifest.version, digest)
        if known != digest:
            raise Violation(f"one number, two versions: {manifest.version} is {known} and {digest}")

    def follows(self, replica: str, salt: str, revision: int, time_ms: int) -> None:
        """Takes note of the plan that a replica follows: it is never older than the one before."""
        before_salt, before_revision, before_ms = self._revisions[replica]
        if salt == before_salt and revision < before_revision and time_ms <= before_ms:
            raise Violation(f"{replica} goes back from revision {before_revision} to {revision}")
        self._revisions[replica] = (salt, revision, time_ms)

    def restarts(self, replica: str) -> None:
        """Takes note that a replica begins anew, without a plan."""
        self._revisions.pop(replica, None)

    def is_delivered(self, partition: TopicPartition, offset: int) -> None:
        """Takes note that the group reads an event: none is read again that was committed, and is not lost."""
        if offset < self.committed.get(partition, 0):
            raise Violation(
                f"answered again: {partition.topic}/{partition.partition} is read from {offset}, and was committed up "
                f"to {self.committed[partition]}"
            )

    def commits(self, partition: TopicPartition, offset: int) -> None:
        self.committed[partition] = max(self.committed.get(partition, 0), offset)

    def loses(self, partition: TopicPartition, end: int) -> None:
        """Takes note that the broker has lost what lies behind `end`, or what was committed behind it."""
        if partition in self.committed:
            self.committed[partition] = min(self.committed[partition], end)

    def answered(self, answer: Answer) -> None:
        """Takes note of an answer that the broker has acknowledged."""
        self.events[answer.event_id].answers.append(answer)
        self.counts["answers"] += 1
