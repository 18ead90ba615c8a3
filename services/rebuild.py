"""Reproduces a published version from the topics, and compares every bit of it.

    answers.v1, feedback.v1 --from their start, by time--> offsets of a round, ... --> learner.rebuild --> tensors

The partitions have no common order, so their records are merged by time stamp. The windows of the join then hold about
the same records as when the version was learnt.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType

from learner.config import LearnerConfig
from learner.encoder.served import StoredTensor
from learner.learner import Learner
from learner.release.rebuild import NotRebuilt, differences, rebuild
from wire.bus import Bus, Received, partition_name
from wire.records import Answer, Feedback, WeightManifest

POLL_MS = 200
QUIET_S = 10.0
"""If a partition returns no record for this long before its offset is reached, its records are lost."""

PART = 500
"""Largest number of records that are learnt together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuilt:
    """The result of a rebuild. `differing` names the tensors that differ; empty if the version was reproduced."""

    version: int
    rounds: int
    records: int
    tensors: int
    differing: tuple[str, ...]


def rebuild_version(
    manifest: WeightManifest,
    learner: Learner,
    config: LearnerConfig,
    bus: Bus,
    *,
    say: Callable[[str], None],
    states: Mapping[str, StoredTensor] = MappingProxyType({}),
) -> Rebuilt:
    """Reproduces the version of `manifest` with `learner`, which must be untrained. Raises NotRebuilt.

    `states` are the version's tensors of inputs (`stored_states`).
    """
    with closing(Topics(bus, say=say)) as topics:
        candidate = rebuild(manifest, learner, config, topics.read_to, states)
    return Rebuilt(
        version=manifest.version,
        rounds=len(manifest.lineage.rounds),
        records=topics.num_read,
        tensors=len(manifest.tensors),
        differing=tuple(differences(manifest, candidate)),
    )


class Topics:
    """Reads answers and labels from the start of their topics, up to one set of offsets after another.

    Records that were fetched beyond the offsets are buffered. How many depends on how unevenly the broker returns the
    partitions.
    """

    def __init__(self, bus: Bus, *, say: Callable[[str], None]) -> None:
        self._follower = bus.follow([Answer, Feedback], {})
        self._say = say
        self._fetched: dict[str, deque[Received[Answer | Feedback]]] = {}
        self._ends: dict[str, int] = {}
        self.num_read = 0

    def read_to(self, offsets: Mapping[str, int]) -> Iterator[Sequence[Answer | Feedback]]:
        """Yields the unread records below `offsets`, ordered by time, in parts of at most PART records.

        consumes: the topics; produces: records; waits for: the broker, at most QUIET_S; unblocked by: a record, or
        NotRebuilt after that time
        """
        part: list[Answer | Feedback] = []
        while (name := self._next(offsets)) is not None:
            part.append(self._fetched[name].popleft().record)
            if len(part) == PART:
                yield self._count(part)
                part = []
        yield self._count(part)

    def close(self) -> None:
        self._follower.close()

    def _count(self, part: list[Answer | Feedback]) -> list[Answer | Feedback]:
        self.num_read += len(part)
        self._say(f"{self.num_read} records read")
        return part

    def _next(self, offsets: Mapping[str, int]) -> str | None:
        """Returns the partition with the earliest next record below `offsets`; None if all records were read."""
        # A record may be read only when the next record of every partition is known: it could be earlier.
        last_fetched_s = time.monotonic()
        while missing := [name for name, end in offsets.items() if self._is_awaited(name, end)]:
            if self._fetch():
                last_fetched_s = time.monotonic()
            elif time.monotonic() - last_fetched_s > QUIET_S:
                raise NotRebuilt(f"{', '.join(sorted(missing))}: no records arrive, up to {dict(offsets)}")
        ready = [name for name, end in offsets.items() if self._is_ready(name, end)]
        return min(ready, key=lambda name: (self._fetched[name][0].record.time_ms, name), default=None)

    def _is_awaited(self, name: str, end: int) -> bool:
        """Returns whether a record of the partition below `end` must be fetched to know the earliest record."""
        return not self._fetched.get(name) and self._ends.get(name, 0) < end

    def _is_ready(self, name: str, end: int) -> bool:
        fetched = self._fetched.get(name)
        return fetched is not None and len(fetched) > 0 and fetched[0].position.offset < end

    def _fetch(self) -> bool:
        """Fetches once; returns whether the offsets have moved, which unreadable messages also cause."""
        followed = self._follower.poll(POLL_MS)
        if followed.num_expired:
            raise NotRebuilt(f"the retention of the topics has removed {followed.num_expired} records")
        if followed.losses:
            raise NotRebuilt(f"{followed.losses[0]}")
        for received in followed.received:
            self._fetched.setdefault(partition_name(received.position), deque()).append(received)
        has_moved = followed.offsets != self._ends
        self._ends = dict(followed.offsets)
        return has_moved
