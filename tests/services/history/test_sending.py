"""Tests that each row of a file is sent once, even if the import is interrupted, and that refusals are reported."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.history.labeller import BadHistory, RowLabeller, RowMaps, SourceRow, read_rows
from services.history.sending import CHUNK, BookmarkFile, HistorySender
from tests.brokers import take
from tests.learner.intake.joins import make_join, make_trust
from wire.bus import Bus
from wire.errors import BadMessage
from wire.label_set import LabelSet
from wire.receipts import Receipts
from wire.records import Feedback

pytestmark = [pytest.mark.live, pytest.mark.parametrize("broker", ["tansu"], indirect=True)]

NUM = CHUNK + 300


class Stopped(Exception):
    """Stands for any event that ends an import."""


def lines(num: int) -> bytes:
    texts = [{"text": f"text {number}", "label": f"l{number % 7}", "id": f"e{number}"} for number in range(num)]
    return b"".join(json.dumps(text).encode() + b"\n" for text in texts)


def stopping(rows: Iterator[SourceRow], after: int) -> Iterator[SourceRow]:
    for number, row in enumerate(rows):
        if number == after:
            raise Stopped
        yield row


class Importer:
    """Imports files on one bus, and collects the refused rows."""

    def __init__(self, bus: Bus, state_dir: Path) -> None:
        self.bus = bus
        self.file = BookmarkFile(state_dir, "history.jsonl")
        self.refused: list[tuple[str, str]] = []
        receipts = Receipts(b"a key for tests")
        self._sending = HistorySender(bus=bus, receipts=receipts, on_refused=self._note, show=lambda text: None)

    def send(self, data: bytes, *, stop_after: int = -1) -> int:
        """Returns the number of labels that this call sent."""
        labelled = RowLabeller(RowMaps(), LabelSet(), source="desk", max_label_chars=20, is_table=False)
        rows = stopping(read_rows(io.BytesIO(data), "jsonl"), stop_after)
        before, after = self._sending.send(rows, labelled, self.file)
        return after.sent - before.sent

    def learnt(self, num: int) -> Counter[str]:
        """Returns the outcomes of at least `num` labels in the topic, counted by a join that requires receipts."""
        received = [item.record for item in take(self.bus.follow([Feedback], {}).poll, num)]
        join = make_join(trust=make_trust(require_receipts=True))
        samples = [sample for sample in join.match(received) if not sample.is_correction]
        assert len({sample.event_id for sample in samples}) == len(samples)
        return join.counts

    def _note(self, row: SourceRow, error: BadMessage) -> None:
        self.refused.append((row.place, error.reason))


@pytest.fixture
def importer(bus: Bus, tmp_path: Path) -> Importer:
    return Importer(bus, tmp_path)


def test_an_import_that_stops_goes_on_where_it_was(importer: Importer) -> None:
    with pytest.raises(Stopped):
        importer.send(lines(NUM), stop_after=CHUNK + 200)
    assert importer.send(lines(NUM)) == 300
    assert importer.send(lines(NUM)) == 0
    assert importer.send(lines(NUM + 5)) == 5
    assert importer.learnt(NUM + 5)["matched"] == NUM + 5


def test_a_file_that_changed_before_the_place_is_refused_until_it_is_sent_anew(importer: Importer) -> None:
    importer.send(lines(20))
    with pytest.raises(BadHistory, match="first 20 rows are not the rows"):
        importer.send(lines(30).replace(b"text 3", b"text three"))
    with pytest.raises(BadHistory, match="first 20 rows are not the rows"):
        importer.send(lines(10))
    importer.file.remove()
    assert importer.send(lines(30)) == 30
    counts = importer.learnt(50)
    # Rows that were learnt before are not learnt again.
    assert (counts["matched"], counts["duplicate"]) == (30, 20)


def test_bad_rows_are_told_and_the_others_are_sent(importer: Importer) -> None:
    assert importer.send(b"{\n" + lines(3) + b'{"text": "t"}\n') == 3
    assert importer.refused == [("line 1", "undecodable"), ("line 5", "wrong_schema")]
    assert importer.learnt(3)["matched"] == 3
