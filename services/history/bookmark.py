"""How far a file was sent: a small file in the state folder, so that an import that stopped goes on where it was.

    rows sent and acknowledged --> Bookmark(rows, digest of them, counts, log of the topic) --> STATE_DIR/imports/NAME

The digest is over every row up to the place, so a file that grew goes on, also where it comes from a pipe, and one that
changed before the place is noticed. A bookmark belongs to the log of the topic: of a topic that was made anew nothing
was sent. Between two bookmarks lie some rows that are sent again after a kill; they have the same ids, and are learnt
once.
"""

from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from wire.files import atomic_write

FOLDER: Final = "imports"


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
