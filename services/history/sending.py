"""Sends the labelled texts of a file to the learner, behind its bookmark, and waits until a version knows them.

    rows --skip those before the bookmark--> chunks --labelled, approved--> feedback.v1 --acknowledged--> bookmark
    Bookmark(rows, digest of them, counts, log of the topic) --> STATE_DIR/imports/NAME

An import that stopped goes on behind its bookmark, a small file. The digest is over every row up to the place, so a
file that grew goes on, also where it comes from a pipe, and one that changed before the place is noticed. A bookmark
belongs to the log of the topic: of a topic that was made anew nothing was sent. Between two bookmarks lie some rows
that are sent again after a kill; they have the same ids, and are learnt once.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from services.history.labeller import BadHistory, RowLabeller, SourceRow
from wire.bus import Bus
from wire.errors import BadMessage, NotFound
from wire.files import atomic_write
from wire.receipts import Receipts
from wire.records import Feedback
from wire.store import Store
from wire.timestamps import now_ms

FOLDER: Final = "imports"

CHUNK: Final = 1_000
"""Rows between two bookmarks: so many are sent again after a kill, at most."""

TIMEOUT_S: Final = 120.0

POLL_S: Final = 0.1

LOG_MS: Final = 100

SETTLED_MS: Final = 3_000
"""A learner that says after so long that it has read everything has fetched since."""

OnRefused = Callable[[SourceRow, BadMessage], None]


class Bookmark(msgspec.Struct, frozen=True, kw_only=True):
    """The first `rows` rows are done, `sent` of them at the broker, in the log `log`; the others were refused."""

    rows: int = 0
    digest: str = ""
    sent: int = 0
    refused: dict[str, int] = {}
    log: str = ""


class BookmarkFile:
    """Holds the bookmark of one file, under one way to read it, in the state folder."""

    def __init__(self, state_dir: Path, *read_as: str) -> None:
        """`read_as` names the file, and everything else that decides what its rows become."""
        name = blake2b(msgspec.json.encode(read_as), digest_size=16).hexdigest()
        self._path = state_dir / FOLDER / f"{name}.json"

    def read(self, log: str) -> Bookmark:
        """Returns the bookmark of this log; the beginning where there is none, or it belongs to another log."""
        try:
            bookmark = msgspec.json.decode(self._path.read_bytes(), type=Bookmark)
        except (FileNotFoundError, msgspec.DecodeError):
            return Bookmark(log=log)
        return bookmark if bookmark.log == log else Bookmark(log=log)

    def write(self, bookmark: Bookmark) -> None:
        """Keeps the bookmark, on disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._path, mode=0o600, is_synced=True) as file:
            file.write(msgspec.json.encode(bookmark))

    def remove(self) -> None:
        """Forgets it: the next import begins at the beginning."""
        self._path.unlink(missing_ok=True)


class RowDigest:
    """The digest over rows in their order."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=16)

    def add(self, raw: bytes) -> None:
        self._digest.update(len(raw).to_bytes(4))
        self._digest.update(raw)

    @property
    def hex(self) -> str:
        return self._digest.hexdigest()


class NotLearntYet(RuntimeError):
    """No version knew all labels when the time was over; they are at the broker, and will be learnt."""


@dataclass(frozen=True, slots=True)
class HistorySender:
    """Where labels are sent, and what is told on the way."""

    bus: Bus
    receipts: Receipts
    on_refused: OnRefused
    """Gets each row that is refused, with the reason."""
    show: Callable[[str], None]
    """Shows how far it is."""

    def send(self, rows: Iterator[SourceRow], labelled: RowLabeller, file: BookmarkFile) -> tuple[Bookmark, Bookmark]:
        """Sends what lies behind the bookmark; returns the bookmark before, and the one after.

        What is sent is acknowledged by the broker. Raises BadHistory where the file changed before the bookmark, and
        what the bus raises: then the bookmark is where the broker had all.
        """
        first = bookmark = file.read(_log_of(self.bus))
        digest = RowDigest()
        for row in islice(rows, bookmark.rows):
            digest.add(row.raw)
        if bookmark.rows and digest.hex != bookmark.digest:
            raise BadHistory(
                f"its first {bookmark.rows} rows are not those that were sent before; --restart sends all of it, and "
                "what was learnt before is not learnt again"
            )
        begun_s = time.monotonic()
        with closing(self.bus.publisher()) as publisher:
            while chunk := list(islice(rows, CHUNK)):
                labels, refused = self._read(chunk, labelled, digest)
                publisher.send_all(map(self.receipts.approved, labels), TIMEOUT_S)
                bookmark = Bookmark(
                    rows=bookmark.rows + len(chunk),
                    digest=digest.hex,
                    sent=bookmark.sent + len(labels),
                    refused=dict(Counter(bookmark.refused) + refused),
                    log=bookmark.log,
                )
                file.write(bookmark)
                pace = (bookmark.sent - first.sent) / max(time.monotonic() - begun_s, 1e-3)
                self.show(f"{bookmark.rows} rows read, {bookmark.sent} sent, {pace:.0f}/s")
        return first, bookmark

    def _read(
        self, chunk: list[SourceRow], labelled: RowLabeller, digest: RowDigest
    ) -> tuple[list[Feedback], Counter[str]]:
        """Returns the labels of the rows, and counts the others by the reason for which they are refused."""
        labels: list[Feedback] = []
        refused = Counter[str]()
        for row in chunk:
            digest.add(row.raw)
            try:
                if isinstance(row.fields, BadMessage):
                    raise row.fields
                labels.append(labelled.feedback(row.fields))
            except BadMessage as error:
                refused[error.reason] += 1
                self.on_refused(row, error)
        return labels, refused


def await_version(bus: Bus, store: Store, *, timeout_s: float) -> int:
    """Returns the number of the current version when it knows all that is in the topic of labels now.

    That is a version which was made behind these labels, or the one of a learner that has read them and found nothing
    new. Raises NotLearntYet.
    """
    wanted = {name: offset for name, offset in bus.end_offsets(Feedback).items() if offset}
    read_by_ms = now_ms() + SETTLED_MS
    deadline_s = time.monotonic() + timeout_s
    while not (_is_covered(store, wanted) or _is_settled(store, read_by_ms)):
        if time.monotonic() >= deadline_s:
            report = store.reports.learner()
            refusals = f" The gate refuses it: {'; '.join(report.refusals)}." if report and report.refusals else ""
            raise NotLearntYet(
                f"no version has learnt them within {timeout_s:g} s. They are at the broker, and will be learnt."
                f"{refusals} `lifelong status` says what the learner does"
            )
        time.sleep(POLL_S)
    return store.versions.current()


def _is_covered(store: Store, wanted: Mapping[str, int]) -> bool:
    """Whether the current version was made when all below these offsets had been learnt."""
    try:
        through = store.versions.manifest(store.versions.current()).trained_through
    except NotFound:  # there is none, or another is current by now
        return False
    return all(through.get(name, 0) >= offset for name, offset in wanted.items())


def _is_settled(store: Store, read_by_ms: int) -> bool:
    """Whether the learner says, at that time or later, that it has read all, and has nothing to do."""
    report = store.reports.learner()
    if report is None or report.time_ms < read_by_ms:
        return False
    return report.is_rested and not report.lag and not report.refusals


def _log_of(bus: Bus) -> str:
    """Returns the identity of the log of the labels: a topic that was made anew has another one."""
    with closing(bus.follow([Feedback], bus.end_offsets(Feedback))) as follower:
        marks = follower.poll(LOG_MS).marks
    logs = {name.rpartition("/")[0]: mark.log for name, mark in marks.items() if mark.log}
    return "/".join(f"{topic}@{log}" for topic, log in sorted(logs.items()))
