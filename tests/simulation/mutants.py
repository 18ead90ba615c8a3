"""Bugs that were mended, each as a switch that takes its mend out again: the simulator finds each of them.

MUTANTS[name].taken_out() --> the product as it was before, until the end of the block
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from learner.intake import consumer, erasures, join
from learner.release import parent
from learner.state import checkpoints
from rollout import label_join
from wire.bus import follower, losses, subscription
from wire.records import Answer, LogMark

HEADER: Final = Struct("<II")


@dataclass(frozen=True, slots=True)
class Mutant:
    """`seeds`: within so many the simulator finds it. `finds` is in what it says then."""

    taken_out: Callable[[], AbstractContextManager[None]]
    seeds: int
    finds: str


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Has `value` in the place of a function, or of anything else, until the end of the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def keeps_features() -> AbstractContextManager[None]:
    """N1: of an erased subject's label only the text was dropped, and its features were learnt."""

    def without_erased(self: Any, records: Any, skip: Any) -> Iterator[Any]:
        for record in records:
            if not self.holds(record.key):
                yield record
            elif isinstance(record, Answer):
                skip(record)
            else:
                yield msgspec.structs.replace(record, text="")

    return replaced(erasures.ErasedSubjects, "without_erased", without_erased)


def believes_zeros() -> AbstractContextManager[None]:
    """N2: zeros at the end of a journal are an entry with the right checksum, and ended the learner at every start."""

    def read_journal(path: Path) -> list[checkpoints.Entry]:
        data = path.read_bytes() if path.exists() else b""
        entries: list[checkpoints.Entry] = []
        start = 0
        while start + HEADER.size <= len(data):
            num_bytes, checksum = HEADER.unpack_from(data, start)
            start += HEADER.size + num_bytes
            body = data[start - num_bytes : start]
            if len(body) != num_bytes or zlib.crc32(body) != checksum:
                break
            entries.append(msgspec.msgpack.decode(body, type=checkpoints.Entry))
        return entries

    return replaced(checkpoints, "read_journal", read_journal)


def reads_the_past_again() -> AbstractContextManager[None]:
    """N6: where a log had lost its tail, the learner read it from its beginning, and knew only the newest of it."""

    def recover(self: Any, error: Exception) -> None:
        for partition in losses.find_resume_points(self._consumer, error):
            self._move_to(partition, 0, LogMark(log=self.marks[partition].log))

    return replaced(follower.Positions, "recover", recover)


def keeps_texts() -> AbstractContextManager[None]:
    """N5: the judge kept the whole label, with a text of up to 128 KiB, until its answer came."""
    structs = SimpleNamespace(replace=lambda label, **_: label)
    return replaced(label_join, "msgspec", SimpleNamespace(structs=structs, msgpack=msgspec.msgpack))


def draws_by_a_known_hash() -> AbstractContextManager[None]:
    """N7: the holdout was drawn by a hash of the event's id, which clients choose."""
    return replaced(join.LabelNames, "draw_holdout_by", lambda self, secret: None)


def waits_for_late_labels() -> AbstractContextManager[None]:
    """N12: while there was no room for more late labels, the learner read nothing."""
    fetch = consumer.Consumer._fetch

    def waiting(self: Any, timeout_ms: int) -> None:
        if self._finder is not None and self._finder._late.counts["late_waiting"]:
            self._wait()
        else:
            fetch(self, timeout_ms)

    return replaced(consumer.Consumer, "_fetch", waiting)


def numbers_go_on() -> AbstractContextManager[None]:
    """N9: a leader went on with the next number that it knew, though a power cut may have taken newer ones."""
    return replaced(parent.ParentVersion, "_leave_gap", lambda self, newest: None)


def answers_the_past_again() -> AbstractContextManager[None]:
    """N15: where committed events were lost, a replica went to the beginning of the log."""

    def recover(self: Any, error: Exception) -> None:
        for partition in losses.find_resume_points(self._consumer, error):
            self._consumer.seek_to_beginning(partition)

    return replaced(subscription.GroupReader, "_recover", recover)


MUTANTS: Final = {
    "N1": Mutant(keeps_features, 40, "erased subjects are in the learner's memory"),
    "N2": Mutant(believes_zeros, 40, "DecodeError"),
    "N5": Mutant(keeps_texts, 40, "the judge keeps the texts"),
    "N6": Mutant(reads_the_past_again, 40, "learnt twice"),
    "N7": Mutant(draws_by_a_known_hash, 40, "anybody can tell"),
    "N9": Mutant(numbers_go_on, 60, "one number, two versions"),
    "N12": Mutant(waits_for_late_labels, 40, "labels have not been read"),
    "N15": Mutant(answers_the_past_again, 40, "answered again"),
}
