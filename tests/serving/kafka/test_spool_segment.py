"""One file of a spool: records in order, finished in any order, and a torn one ends the file."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.kafka.spool import MAX_OVERHEAD_BYTES, Segment, abandoned_segment, new_segment


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "segment"


def opened(segment: Segment | None) -> Segment:
    assert segment is not None
    return segment


def left(path: Path) -> list[bytes]:
    """Returns what an adopter of the file takes."""
    segment = opened(abandoned_segment(path))
    taken: list[bytes] = []
    while (record := segment.take()) is not None:
        taken.append(record[1])
    os.close(segment._fd)
    return taken


def abandon(segment: Segment) -> None:
    """Ends as a killed process does: the lock is released, and the file stays."""
    os.close(segment._fd)


def test_what_was_appended_is_taken_in_order_also_by_an_adopter(path: Path) -> None:
    segment = opened(new_segment(path))
    for data in (b"a", b"", b"ccc"):
        segment.append(data)
    abandon(segment)
    assert left(path) == [b"a", b"", b"ccc"]
    assert path.stat().st_size <= 4 + 3 * MAX_OVERHEAD_BYTES


def test_only_the_finished_prefix_is_forgotten(path: Path) -> None:
    segment = opened(new_segment(path))
    for data in (b"a", b"b", b"c"):
        segment.append(data)
    ends = [record[0] for record in (segment.take(), segment.take(), segment.take()) if record is not None]
    segment.finish(ends[1])
    segment.finish(ends[0])
    assert not segment.is_spent
    abandon(segment)
    assert left(path) == [b"c"]


def test_a_file_belongs_to_one_process_at_a_time(path: Path) -> None:
    segment = opened(new_segment(path))
    assert abandoned_segment(path) is None
    with pytest.raises(FileExistsError):
        new_segment(path)
    segment.close()
    assert not path.exists()  # nothing was left in it
    assert abandoned_segment(path) is None


def test_an_emptied_file_takes_new_records(path: Path) -> None:
    segment = opened(new_segment(path))
    segment.append(b"old")
    segment.empty()
    segment.append(b"new")
    abandon(segment)
    assert left(path) == [b"new"]


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=4), st.integers(0, 10_000), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_torn_or_damaged_file_gives_a_prefix_of_its_records(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], place: int, mask: int
) -> None:
    path = tmp_path_factory.mktemp("spool") / "segment"
    segment = opened(new_segment(path))
    for data in records:
        segment.append(data)
    abandon(segment)
    whole = path.read_bytes()
    at = place % len(whole)
    path.write_bytes(whole[:at])
    assert left(path) == records[: len(left(path))]
    path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
    assert left(path) == records[: len(left(path))]
