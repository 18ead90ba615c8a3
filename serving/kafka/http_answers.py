"""Answers by HTTP that are on disk until the broker has them: a spool of answers, and what is said of its disk.

    keep --> [Spool] --take--> Answer, mark --(the broker has it)--> finish

A replica without a folder has none of it.
"""

import math
from dataclasses import dataclass
from enum import Enum

import msgspec
import structlog

from serving.counts import Counts
from serving.kafka.spool import Mark, Spool
from wire.records import Answer

ADOPT_S = 10.0
"""How often to look for what other replicas have left."""

log = structlog.get_logger("outbox")


class Keeping(Enum):
    KEPT = "kept"
    NO_ROOM = "no_room"
    """There is as much on disk as there may be."""
    NO_DISK = "no_disk"
    """There is no folder, or its disk is full or broken."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    answer: Answer
    mark: Mark


class KeptAnswers:
    """To be guarded by its owner."""

    def __init__(self, spool: Spool | None, counts: Counts) -> None:
        self._spool = spool
        self._counts = counts
        self._decoder = msgspec.json.Decoder(Answer)
        self.has_failed = False
        """Whether the disk refused the last answer."""
        self.adopt_s = math.inf if spool is None else -math.inf
        """When to look again for what other replicas have left, on the monotonic clock."""

    def keep(self, answer: Answer) -> Keeping:
        if self._spool is None:
            return Keeping.NO_DISK
        try:
            is_kept = self._spool.append(msgspec.json.encode(answer))
        except OSError as error:
            self._note(error)
            return Keeping.NO_DISK
        self._note(None)
        return Keeping.KEPT if is_kept else Keeping.NO_ROOM

    def take(self) -> KeptAnswer | None:
        """The oldest answer that was not taken yet. What another release wrote and we cannot read is given up."""
        while self._spool is not None and (taken := self._spool.take()) is not None:
            mark, data = taken
            try:
                return KeptAnswer(self._decoder.decode(data), mark)
            except msgspec.DecodeError as error:
                self._counts.add("kept_unreadable")
                log.error("kept_unreadable", error=str(error))
                self._spool.finish(mark)
        return None

    def finish(self, mark: Mark) -> None:
        """The broker has the answer, or its dead letter."""
        if self._spool is not None:
            self._spool.finish(mark)

    def adopt(self, now_s: float) -> bool:
        """Takes over what other replicas have left, when it is time to look. Whether there is something new."""
        if self._spool is None or now_s < self.adopt_s:
            return False
        self.adopt_s = now_s + ADOPT_S
        try:
            num_bytes = self._spool.adopt()
        except OSError as error:
            self._note(error)
            return False
        if num_bytes:
            log.info("kept_answers_adopted", bytes=num_bytes)
        return num_bytes > 0

    def close(self) -> None:
        """Leaves what is not finished to the next replica."""
        self.adopt_s = math.inf
        if self._spool is not None:
            self._spool.close()

    def _note(self, error: OSError | None) -> None:
        """Says once that the disk fails, and once that it works again."""
        if (error is not None) == self.has_failed:
            return
        self.has_failed = error is not None
        if error is not None:
            log.error("answers_not_kept_on_disk", error=str(error))
        else:
            log.info("answers_kept_on_disk_again")
