"""The outbox: sends dead letters and quarantined labels at least once.

    refused, quarantined --add--> Outbox --OutboxSender, in a thread of its own--> deadletter.v1, quarantine.v1
                                    |                             |
                                    '--export--> checkpoint       '--acknowledged--> removed from the outbox

A letter is a dead letter (a record that could not be read) or a quarantined label. A record below the offsets of a
checkpoint is not read again, so its letter must not be lost. Therefore unacknowledged letters are part of the
checkpoint, and are sent again after a restart. So each letter arrives at least once. And no one waits for a letter: a
slow broker delays neither learning nor publishing. The outbox is bounded in bytes; while it is full, the learner reads
no records.

If the broker refuses a letter for good, the letter is replaced by a short dead letter. If the broker refuses that, too,
the letter is counted and dropped.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeAlias, TypeGuard

import msgspec
import structlog

from learner.errors import LearnerError
from wire.bus import Bus, Publisher
from wire.dead_letters import MAX_SHORT_PAYLOAD_BYTES, unsendable
from wire.errors import SendFailed, WireError
from wire.message import Place
from wire.records import DeadLetter, Quarantined
from wire.threads import BackgroundThread

Letter: TypeAlias = DeadLetter | Quarantined

MAX_BYTES: Final = 16 << 20
"""The outbox is full if the waiting letters have this many bytes. The letters of one poll may exceed it."""

LETTER_OVERHEAD: Final = 1_000
"""The bytes of memory per letter in addition to its contents."""

RETRY_S: Final = 0.5
"""Seconds to wait after a letter could not be sent."""

log = structlog.get_logger("learner")


class LettersState(msgspec.Struct, frozen=True, kw_only=True):
    """The letters that are not acknowledged."""

    dead_letters: list[DeadLetter] = []
    quarantined: list[Quarantined] = []


class Outbox:
    """The letters that the broker has not acknowledged yet, oldest first. Any thread may call its methods."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[int, Letter] = {}
        # The numbers of the letters that are not being sent now.
        self._queued: OrderedDict[int, None] = OrderedDict()
        self._num_bytes = 0
        self._next = 0
        self._counts: Counter[str] = Counter()

    def add(self, letters: Iterable[Letter]) -> None:
        with self._changed:
            for letter in letters:
                self._put(letter)
            self._changed.notify_all()

    def restore(self, state: LettersState) -> None:
        """Replaces all letters by the letters of `state`. Acknowledgements of the old ones are ignored."""
        with self._changed:
            for number in list(self._waiting):
                self._remove(number)
            letters: list[Letter] = [*state.dead_letters, *state.quarantined]
            for letter in letters:
                self._put(letter)
            self._changed.notify_all()

    def erase(self, is_erased: Callable[[str], bool]) -> None:
        """Removes the text of the event from each quarantined label about an erased subject.

        Dead letters stay as they are, since they name no subject. A letter that is being sent arrives unchanged.
        """
        with self._changed:
            for number, letter in self._waiting.items():
                if isinstance(letter, Quarantined) and is_erased(letter.key):
                    self._num_bytes += _num_bytes(letter.bare) - _num_bytes(letter)
                    self._waiting[number] = letter.bare

    def export(self) -> LettersState:
        with self._changed:
            letters = tuple(self._waiting.values())
        return LettersState(
            dead_letters=[letter for letter in letters if isinstance(letter, DeadLetter)],
            quarantined=[letter for letter in letters if isinstance(letter, Quarantined)],
        )

    def take(self, timeout_s: float) -> tuple[int, Letter] | None:
        """Waits at most `timeout_s` seconds for a letter to send; returns it with its number, or None if none came."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._queued, timeout_s):
                return None
            number, _ = self._queued.popitem(last=False)
            return number, self._waiting[number]

    def on_delivery(self, number: int, error: Exception | None) -> None:
        """Handles the result of sending a letter.

        An acknowledged letter is removed. After a permanent error it is replaced by a short one. After any other error
        it is queued again.
        """
        with self._changed:
            # Other letters may have been restored meanwhile.
            if number not in self._waiting:
                return
            if error is None:
                self._remove(number)
            elif _is_permanent(error):
                self._shorten(self._remove(number), error)
            else:
                self._queued[number] = None
            self._changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Waits at most `timeout_s` seconds until all letters are acknowledged; returns whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    @property
    def is_full(self) -> bool:
        with self._changed:
            return self._num_bytes >= MAX_BYTES

    @property
    def counts(self) -> dict[str, int]:
        """The counters for reports: letters that wait (`letters_waiting`), that were shortened, and that were lost."""
        with self._changed:
            return dict(self._counts) | {"letters_waiting": len(self._waiting)}

    def _put(self, letter: Letter) -> None:
        self._waiting[self._next] = letter
        self._queued[self._next] = None
        self._num_bytes += _num_bytes(letter)
        self._next += 1

    def _remove(self, number: int) -> Letter:
        letter = self._waiting.pop(number)
        self._queued.pop(number, None)
        self._num_bytes -= _num_bytes(letter)
        return letter

    def _shorten(self, letter: Letter, error: SendFailed) -> None:
        if isinstance(letter, DeadLetter) and len(letter.payload) <= MAX_SHORT_PAYLOAD_BYTES:
            self._counts["letters_lost"] += 1
            log.error("letter_lost", letter=letter.message_id, reason=str(error))
            return
        self._counts["letters_shortened"] += 1
        place = Place(topic=type(letter).TOPIC, partition=0, offset=0)
        self._put(unsendable(letter, error, place, source=letter.source))


class OutboxSender:
    """Sends the letters of the outbox in a thread of its own.

    consumes: letters of the outbox
    produces: DeadLetter, Quarantined
    waits for: a letter; the broker, as long as a send may take
    unblocked by: a letter, the broker's answer, `close`
    """

    def __init__(self, bus: Bus, letters: Outbox) -> None:
        self._bus = bus
        self._letters = letters
        self._publisher: Publisher | None = None
        self._has_failed = False
        self._thread = BackgroundThread(self._run, name="letter sender")
        self._thread.start()

    def check(self) -> None:
        """Raises LearnerError if a bug has ended the sending thread, since letters would then wait for ever."""
        self._thread.check(LearnerError)

    def close(self, timeout_s: float) -> None:
        """Waits at most `timeout_s` seconds until all letters are acknowledged. The checkpoint keeps the rest."""
        self._letters.wait_until_empty(timeout_s)
        self._thread.close(RETRY_S)

    def _run(self) -> None:
        """Sends letters until it is closed.

        consumes: the letters that wait, oldest first
        produces: DeadLetter and Quarantined, on the bus
        waits for: a letter, at most RETRY_S; and as long after a failure
        unblocked by: a letter, close
        """
        while not self._thread.closing.is_set():
            if self._has_failed:
                self._thread.closing.wait(RETRY_S)
            numbered = self._letters.take(RETRY_S)
            if numbered is not None:
                self._send(*numbered)

    def _send(self, number: int, letter: Letter) -> None:
        try:
            self._publisher = self._publisher or self._bus.publisher()
            self._publisher.send(letter, partial(self._on_delivery, number))
        except WireError as error:
            self._on_delivery(number, error)

    def _on_delivery(self, number: int, error: Exception | None) -> None:
        """Passes the result to the outbox. Logs the first of several failures in a row."""
        had_failed = self._has_failed
        self._has_failed = error is not None and not _is_permanent(error)
        if self._has_failed and not had_failed:
            log.warning("letters_wait", reason=str(error))
        self._letters.on_delivery(number, error)


def _is_permanent(error: Exception | None) -> TypeGuard[SendFailed]:
    return isinstance(error, SendFailed) and error.is_permanent


def _num_bytes(letter: Letter) -> int:
    """Returns the size of a letter with all of its fields, since class names and sources may be long, too."""
    return LETTER_OVERHEAD + len(msgspec.msgpack.encode(letter))
