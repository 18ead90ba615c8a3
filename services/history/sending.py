"""Sends the labelled texts of a file to the learner, starting at a bookmark, and waits until a version knows them.

    rows --skip the rows before the bookmark--> chunks --labelled, approved--> feedback.v1 --acknowledged--> bookmark
    Bookmark(rows, digest of the rows, counts, log of the topic) --> STATE_DIR/imports/NAME

A bookmark is a small file. An import that was interrupted continues at its bookmark:

- The bookmark has a digest of all rows before it. So an import continues if the file has grown, even if it comes from a
  pipe, and is refused if these rows have changed.
- A bookmark belongs to the log of the topic. If the topic was deleted and created again, the import starts over.
- After a kill, rows since the last bookmark are sent again. They have the same ids, so they are learnt once.
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
"""Number of rows between two bookmarks, and so the largest number of rows that are sent again after a kill."""

TIMEOUT_S: Final = 120.0

POLL_S: Final = 0.1

LOG_MS: Final = 100

SETTLED_MS: Final = 3_000
"""A learner that reports, this long after the last label was sent, that it has read everything has read the label."""

OnRefused = Callable[[SourceRow, BadMessage], None]


class Bookmark(msgspec.Struct, frozen=True, kw_only=True):
    """The place in a file up to which rows were sent.

    Of the first `rows` rows, which have the `digest`, `sent` rows are in the topic's log `log`. The others were
    `refused`, counted by reason.
    """

    rows: int = 0
    digest: str = ""
    sent: int = 0
    refused: dict[str, int] = {}
    log: str = ""


class BookmarkFile:
    """Stores the bookmark of one file, read with certain options, in the state folder."""

    def __init__(self, state_dir: Path, *read_as: str) -> None:
        """`read_as` identifies the file and all options that determine the labels of its rows."""
        name = blake2b(msgspec.json.encode(read_as), digest_size=16).hexdigest()
        self._path = state_dir / FOLDER / f"{name}.json"

    def read(self, log: str) -> Bookmark:
        """Returns the bookmark for this log; the beginning of the file if there is none, or it is for another log."""
        try:
            bookmark = msgspec.json.decode(self._path.read_bytes(), type=Bookmark)
        except (FileNotFoundError, msgspec.DecodeError):
            return Bookmark(log=log)
        return bookmark if bookmark.log == log else Bookmark(log=log)

    def write(self, bookmark: Bookmark) -> None:
        """Stores the bookmark. It is on disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._path, mode=0o600, is_synced=True) as file:
            file.write(msgspec.json.encode(bookmark))

    def remove(self) -> None:
        """Removes the bookmark: the next import starts at the beginning of the file."""
        self._path.unlink(missing_ok=True)


class RowDigest:
    """The digest of a sequence of rows."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=16)

    def add(self, raw: bytes) -> None:
        self._digest.update(len(raw).to_bytes(4))
        self._digest.update(raw)

    @property
    def hex(self) -> str:
        return self._digest.hexdigest()


class NotLearntYet(RuntimeError):
    """No version knew all labels before the timeout. The labels are in the topic, and will be learnt."""


@dataclass(frozen=True, slots=True)
class HistorySender:
    """Sends the rows of a file as approved labels."""

    bus: Bus
    receipts: Receipts
    on_refused: OnRefused
    """Called with each refused row and its error."""
    show: Callable[[str], None]
    """Called with the progress."""

    def send(self, rows: Iterator[SourceRow], labeller: RowLabeller, file: BookmarkFile) -> tuple[Bookmark, Bookmark]:
        """Sends the rows after the bookmark; returns the bookmark before, and the bookmark after.

        When this returns, the broker has acknowledged all labels. Raises BadHistory if the rows before the bookmark
        have changed, and the errors of the bus. After an error, the bookmark is at the last acknowledged chunk.
        """
        first = bookmark = file.read(_topic_identity(self.bus))
        digest = RowDigest()
        for row in islice(rows, bookmark.rows):
            digest.add(row.raw)
        if bookmark.rows and digest.hex != bookmark.digest:
            raise BadHistory(
                f"its first {bookmark.rows} rows are not the rows that were sent before; --restart sends the whole "
                "file, and rows that were learnt before are not learnt again"
            )
        begun_s = time.monotonic()
        with closing(self.bus.publisher()) as publisher:
            while chunk := list(islice(rows, CHUNK)):
                labels, refused = self._read(chunk, labeller, digest)
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
        self, chunk: list[SourceRow], labeller: RowLabeller, digest: RowDigest
    ) -> tuple[list[Feedback], Counter[str]]:
        """Returns the labels of the rows, and the number of refused rows by reason."""
        labels: list[Feedback] = []
        refused = Counter[str]()
        for row in chunk:
            digest.add(row.raw)
            try:
                if isinstance(row.fields, BadMessage):
                    raise row.fields
                labels.append(labeller.feedback(row.fields))
            except BadMessage as error:
                refused[error.reason] += 1
                self.on_refused(row, error)
        return labels, refused


def await_version(bus: Bus, store: Store, *, timeout_s: float) -> int:
    """Waits until the current version knows all labels that are in the topic now; returns its number.

    This is a version that was made after these labels, or the current version of a learner that has read the labels
    and found nothing new. Raises NotLearntYet after `timeout_s`.
    """
    label_ends = {name: offset for name, offset in bus.end_offsets(Feedback).items() if offset}
    read_by_ms = now_ms() + SETTLED_MS
    deadline_s = time.monotonic() + timeout_s
    while not (_is_covered(store, label_ends) or _is_settled(store, read_by_ms)):
        if time.monotonic() >= deadline_s:
            report = store.reports.learner()
            refusals = f" The gate refuses it: {'; '.join(report.refusals)}." if report and report.refusals else ""
            raise NotLearntYet(
                f"no version has learnt them within {timeout_s:g} s. They are in the topic, and will be learnt."
                f"{refusals} `lifelong status` shows what the learner does"
            )
        time.sleep(POLL_S)
    return store.versions.current()


def _is_covered(store: Store, label_ends: Mapping[str, int]) -> bool:
    """Returns whether the current version was made after all labels below these offsets had been learnt."""
    try:
        through = store.versions.manifest(store.versions.current()).trained_through
    except NotFound:
        # There is no current version, or another version became current meanwhile.
        return False
    return all(through.get(name, 0) >= offset for name, offset in label_ends.items())


def _is_settled(store: Store, read_by_ms: int) -> bool:
    """Returns whether the learner has reported since `read_by_ms` that it has read all labels and is at rest."""
    report = store.reports.learner()
    if report is None or report.time_ms < read_by_ms:
        return False
    return report.is_rested and not report.lag and not report.refusals


def _topic_identity(bus: Bus) -> str:
    """Returns the identity of the labels' topic log. A topic that was deleted and created again has another one."""
    with closing(bus.follow([Feedback], bus.end_offsets(Feedback))) as follower:
        marks = follower.poll(LOG_MS).marks
    logs = {name.rpartition("/")[0]: mark.log for name, mark in marks.items() if mark.log}
    return "/".join(f"{topic}@{log}" for topic, log in sorted(logs.items()))
