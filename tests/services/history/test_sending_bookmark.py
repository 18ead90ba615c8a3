"""Tests the bookmark of a file: it is valid only for its topic log, and its digest distinguishes rows."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.history.sending import Bookmark, BookmarkFile, RowDigest

MARK = Bookmark(rows=7, digest="ab", sent=6, refused={"undecodable": 1}, log="t@1")


def test_a_bookmark_belongs_to_a_file_and_a_log(tmp_path: Path) -> None:
    file = BookmarkFile(tmp_path, "history.csv", "csv")
    assert file.read("t@1") == Bookmark(log="t@1")
    file.write(MARK)
    assert BookmarkFile(tmp_path, "history.csv", "csv").read("t@1") == MARK
    assert file.read("t@2") == Bookmark(log="t@2")
    assert BookmarkFile(tmp_path, "history.csv", "tsv").read("t@1") == Bookmark(log="t@1")
    file.remove()
    assert file.read("t@1") == Bookmark(log="t@1")


def test_a_bookmark_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    file = BookmarkFile(tmp_path, "a")
    file.write(MARK)
    (path,) = (tmp_path / "imports").iterdir()
    path.write_bytes(b"{")
    assert file.read("t@1") == Bookmark(log="t@1")


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_only_equal_rows_have_equal_digests(rows: list[bytes], others: list[bytes]) -> None:
    digests = [RowDigest(), RowDigest()]
    for digest, raws in zip(digests, (rows, others), strict=True):
        for raw in raws:
            digest.add(raw)
    assert (digests[0].hex == digests[1].hex) == (rows == others)
