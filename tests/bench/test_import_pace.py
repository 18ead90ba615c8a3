"""The rows of the file that the benchmark imports."""

import io

from bench.import_pace import _line
from evals.streams.stream import StreamItem
from services.history.labeller import read_rows


def test_each_row_has_an_id_of_its_own_so_that_each_is_learnt() -> None:
    item = StreamItem("where is my parcel", "delivery")
    rows = list(read_rows(io.BytesIO(_line(0, item) + _line(1, item)), "jsonl"))
    assert [row.fields for row in rows] == [
        {"id": f"row-{number}", "text": item.text, "label": item.label} for number in (0, 1)
    ]
