"""Answers by HTTP, kept on disk until the broker has them: a spool of answers, with the state of its disk.

    keep --> [Spool] --take--> Answer, mark --(the broker has it)--> finish

A replica without a spool folder keeps none.
"""

import math
from dataclasses import dataclass
from enum import Enum

import msgspec
import structlog

from serving.counts import Counts
from serving.kafka.spool import Mark, Spool
from wire.records import Answer

ADOPT_INTERVAL_S = 10.0
"""Interval at which answers that other replicas have left are adopted."""

log = structlog.get_logger("outbox")


class KeepResult(Enum):
    KEPT = "kept"
    NO_ROOM = "no_room"
    """The spool has as many bytes as it may."""
    NO_DISK = "no_disk"
    """There is no folder, or its disk is full or broken."""


@dataclass(frozen=True, slots=True)
class SpooledAnswer:
    answer: Answer
    mark: Mark


class AnswerSpool:
    """The answers on disk. It is not thread-safe: its owner guards it."""

    def __init__(self, spool: Spool | None, counts: Counts) -> None:
        self._spool = spool
        self._counts = counts
        self._decoder = msgspec.json.Decoder(Answer)
        self.has_failed = False
        """Whether the disk refused the last answer."""
        self.next_adopt_s = math.inf if spool is None else -math.inf
        """The time at which answers of other replicas are adopted next, on the monotonic clock."""

    def keep(self, answer: Answer) -> KeepResult:
        if self._spool is None:
            return KeepResult.NO_DISK
        try:
            is_kept = self._spool.append(msgspec.json.encode(answer))
        except OSError as error:
            self._log_change(error)
            return KeepResult.NO_DISK
        self._log_change(None)
        return KeepResult.KEPT if is_kept else KeepResult.NO_ROOM

    def take(self) -> SpooledAnswer | None:
        """Returns the oldest answer that was not taken yet. Answers of another release that cannot be read are
        dropped."""
        while self._spool is not None:
            taken = self._spool.take()
            if taken is None:
                break
            mark, data = taken
            try:
                return SpooledAnswer(self._decoder.decode(data), mark)
            except msgspec.DecodeError as error:
                self._counts.add("kept_unreadable")
                log.error("kept_unreadable", error=str(error))
                self._spool.finish(mark)
        return None

    def finish(self, mark: Mark) -> None:
        """Removes an answer: the broker has it, or its dead letter."""
        if self._spool is not None:
            self._spool.finish(mark)

    def adopt(self, now_s: float) -> bool:
        """Adopts answers that other replicas have left, when that is due. Returns whether there are new ones."""
        if self._spool is None or now_s < self.next_adopt_s:
            return False
        self.next_adopt_s = now_s + ADOPT_INTERVAL_S
        try:
            num_bytes = self._spool.adopt()
        except OSError as error:
            self._log_change(error)
            return False
        if num_bytes:
            log.info("kept_answers_adopted", bytes=num_bytes)
        return num_bytes > 0

    def close(self) -> None:
        """Leaves the unfinished answers to the next replica."""
        self.next_adopt_s = math.inf
        if self._spool is not None:
            self._spool.close()

    def _log_change(self, error: OSError | None) -> None:
        """Logs once that the disk fails, and once that it works again."""
        if (error is not None) == self.has_failed:
            return
        self.has_failed = error is not None
        if error is not None:
            log.error("answers_not_kept_on_disk", error=str(error))
        else:
            log.info("answers_kept_on_disk_again")
