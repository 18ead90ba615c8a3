"""Makes a published version again from the topics, and says whether every bit of it is the same.

    answers.v1, feedback.v1 --from their start, by time--> offsets of a round, ... --> learner.rebuild --> tensors

The partitions have no common order, so records are taken by the time that they carry: the windows of the join then see
about what they saw when the version was learnt.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from learner.config import LearnerConfig
from learner.learner import Learner
from learner.release.rebuild import NotRebuilt, differing, rebuild
from wire.bus import Bus, Received, partition_name
from wire.records import Answer, Feedback, WeightManifest

POLL_MS = 200
QUIET_S = 10.0
"""A partition that should go on, but gives nothing for so long, has lost what the version was learnt from."""

PART = 500
"""Records that are learnt at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuilt:
    """What came of it. `differing` names the tensors that are not the same; none where the version was made again."""

    version: int
    rounds: int
    records: int
    tensors: int
    differing: tuple[str, ...]


def made_again(
    manifest: WeightManifest, learner: Learner, config: LearnerConfig, bus: Bus, *, say: Callable[[str], None]
) -> Rebuilt:
    """Make the version of `manifest` again with `learner`, which knows nothing yet. Raises NotRebuilt."""
    with closing(Topics(bus, say=say)) as topics:
        candidate = rebuild(manifest, learner, config, topics.read_to)
    return Rebuilt(
        version=manifest.version,
        rounds=len(manifest.lineage.rounds),
        records=topics.num_read,
        tensors=len(manifest.tensors),
        differing=tuple(differing(manifest, candidate)),
    )


class Topics:
    """Answers and labels from the start of their topics, up to one set of offsets after another.

    What was fetched beyond the offsets waits, so the memory is bounded by how far the partitions are fetched apart.
    """

    def __init__(self, bus: Bus, *, say: Callable[[str], None]) -> None:
        self._follower = bus.follow([Answer, Feedback], {})
        self._say = say
        self._fetched: dict[str, deque[Received[Answer | Feedback]]] = {}
        self._ends: dict[str, int] = {}
        self.num_read = 0

    def read_to(self, offsets: Mapping[str, int]) -> Iterator[Sequence[Answer | Feedback]]:
        """What lies below `offsets` and was not given yet, by time, in parts.

        consumes: the topics; produces: records; waits for: the broker, at most QUIET_S; unblocked by: a record, or the
        end of that time: NotRebuilt
        """
        part: list[Answer | Feedback] = []
        while (name := self._next(offsets)) is not None:
            part.append(self._fetched[name].popleft().record)
            if len(part) == PART:
                yield self._counted(part)
                part = []
        yield self._counted(part)

    def close(self) -> None:
        self._follower.close()

    def _counted(self, part: list[Answer | Feedback]) -> list[Answer | Feedback]:
        self.num_read += len(part)
        self._say(f"{self.num_read} records read")
        return part

    def _next(self, offsets: Mapping[str, int]) -> str | None:
        """The partition whose next record is the earliest of all that lie below `offsets`; None where there is none."""
        heard_s = time.monotonic()
        while missing := [name for name, end in offsets.items() if self._may_come(name, end)]:
            if self._fetch():
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > QUIET_S:
                raise NotRebuilt(f"{', '.join(sorted(missing))}: nothing comes, up to {dict(offsets)}")
        ready = [name for name, end in offsets.items() if self._is_ready(name, end)]
        return min(ready, key=lambda name: (self._fetched[name][0].record.time_ms, name), default=None)

    def _may_come(self, name: str, end: int) -> bool:
        """Whether a record below `end` is still to be fetched before it is known which one is the next."""
        return not self._fetched.get(name) and self._ends.get(name, 0) < end

    def _is_ready(self, name: str, end: int) -> bool:
        fetched = self._fetched.get(name)
        return fetched is not None and len(fetched) > 0 and fetched[0].position.offset < end

    def _fetch(self) -> bool:
        """Whether anything came, be it what cannot be read."""
        followed = self._follower.poll(POLL_MS)
        if self._follower.num_expired:
            raise NotRebuilt(f"{self._follower.num_expired} records of the topics are too old and gone")
        for received in followed.received:
            self._fetched.setdefault(partition_name(received.position), deque()).append(received)
        has_moved = followed.offsets != self._ends
        self._ends = dict(followed.offsets)
        return has_moved
