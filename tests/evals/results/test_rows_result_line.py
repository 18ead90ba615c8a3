"""The format of results.jsonl, which other programs read."""

import json

import msgspec
import pytest

from evals.results.conditions import Conditions
from evals.results.row import Peer, Row
from evals.results.rows import ResultLine, Surroundings, decode, encode

HERE = Surroundings(
    machine="2 x processor",
    versions={"python": "3.11.7", "openvino": "2026.0"},
    command="python -m bench",
    commit="b24c41f",
)
PEERS = (Peer("torch", 300.0), Peer("others", 200.0))
FAST = Row.of("fast", 900.0, "events/s", goal=">= 2x", peers=PEERS)
LINE = {
    "name": "fast",
    "unit": "events/s",
    "goal": ">= 2x",
    "met": True,
    "min": 900.0,
    "median": 900.0,
    "max": 900.0,
    "calls": [
        {
            "value": 900.0,
            "goal": ">= 2x",
            "ratio": 3.0,
            "peers": {"torch": 300.0, "others": 200.0},
            "missing": [],
            "unfinished": [],
            "note": "",
        }
    ],
    "machine": "2 x processor",
    "versions": {"python": "3.11.7", "openvino": "2026.0"},
    "command": "python -m bench",
    "commit": "b24c41f",
    "conditions": [
        {
            "before": {"seconds": 1.0, "load": 0.1, "steal": 0.0, "others": 0.0, "busiest": {}},
            "during": {"seconds": 30.0, "load": 1.9, "steal": 0.4, "others": 0.95, "busiest": {"python pytest": 0.93}},
            "after": {"seconds": 1.0, "load": 1.9, "steal": 0.0, "others": 0.0, "busiest": {}},
        }
    ],
}
CONDITIONS = msgspec.convert(LINE["conditions"], tuple[Conditions, ...])


def test_a_line_has_exactly_the_promised_fields() -> None:
    line = encode(ResultLine.of(FAST, HERE, CONDITIONS)).decode()
    assert line.endswith("}\n")
    assert json.loads(line) == LINE
    assert list(json.loads(line)) == list(LINE)


def test_a_line_is_read_back_as_it_was_written() -> None:
    missed = Row.of("slow", None, "ms", goal="<= 5", note="it was not there")
    for row in (FAST, missed):
        record = ResultLine.of(row, HERE, CONDITIONS)
        assert decode(encode(record).decode()) == record
    assert (record.median, record.met) == (None, False)


@pytest.mark.parametrize(("left_out", "added"), [("commit", ""), ("", "peer")])
def test_a_line_of_another_format_is_refused(left_out: str, added: str) -> None:
    line = {name: value for name, value in LINE.items() if name != left_out}
    line |= {added: None} if added else {}
    with pytest.raises(msgspec.ValidationError, match=left_out or added):
        decode(json.dumps(line))
