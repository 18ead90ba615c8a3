"""Rows are collected, printed and recorded."""

from pathlib import Path

from evals.results.row import Gaps, Peer, Row
from evals.results.rows import ABSENT, RowsByCall, decode, render_row
from tests.evals.results.test_rows_result_line import HERE

PEERS = (Peer("torch", 300.0), Peer("others", 200.0))
TWICE = ">= 2x"
FAST = Row.of("fast", 900.0, "events/s", goal=TWICE, peers=PEERS)
SLOW = Row.of("slow", None, "ms", goal="<= 5", note="it was not there")


def fast(value: float) -> Row:
    return Row.of("fast", value, "events/s", goal=">= 600")


def test_a_line_is_appended_for_each_row(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    rows = RowsByCall("x", HERE)
    for row in (FAST, SLOW):
        rows.add(row)
    for _ in range(2):
        rows.record(path)
    records = list(map(decode, path.read_text().splitlines()))
    assert [record.name for record in records] == ["fast", "slow"] * 2
    assert {record.versions["openvino"] for record in records} == {"2026.0"}


def test_a_line_says_whether_the_goal_is_met_and_what_the_best_peer_reaches() -> None:
    assert render_row(FAST).split() == ["fast", "900", "events/s", ">=", "2x", "yes", "3x", "of", "torch:", "300"]
    assert render_row(SLOW).split() == ["slow", "none", "ms", "<=", "5", "NOT", "MET", "it", "was", "not", "there"]


def test_a_line_names_missing_peers() -> None:
    gaps = Gaps(missing=("OpenVINO", "torchao"))
    row = Row.of("x", 9.0, "texts/s", goal=TWICE, peers=PEERS, gaps=gaps)
    assert render_row(row).endswith("3x of torch: 300; incomplete: OpenVINO, torchao missing")


def test_a_line_names_peers_whose_settings_were_not_all_tried() -> None:
    row = Row.of("x", 9.0, "texts/s", goal=TWICE, peers=PEERS, gaps=Gaps(unfinished=("torchao",)))
    assert render_row(row).endswith("3x of torch: 300; not all settings tried: torchao")


def test_each_call_has_its_own_goal() -> None:
    rows = RowsByCall("x", HERE)
    for twice, in_flight in ((500.0, 400), (100.0, 600)):
        rows.add(Row.of("twice", twice, "events", goal=f"<= {in_flight}"))
        rows.end_call()
    (row,) = rows
    assert row.met is False
    assert row.goal == "<= 400, <= 600"
    assert [str(call.goal) for call in row.calls] == ["<= 400", "<= 600"]


def test_the_calls_of_a_row_are_collected() -> None:
    rows = RowsByCall("x", HERE)
    for value in (700.0, 800.0, 500.0):
        rows.add(fast(value))
        assert rows.end_call() == []
    (row,) = rows
    assert [call.value for call in row.calls] == [700.0, 800.0, 500.0]
    assert row.met is False
    assert "700 (500 to 800)" in render_row(row)


def test_a_row_that_a_call_did_not_reach_has_no_value_in_that_call() -> None:
    rows = RowsByCall("x", HERE)
    rows.add(fast(700.0))
    assert rows.end_call() == []
    rows.add(SLOW)
    (lacking,) = rows.end_call()
    assert (lacking.name, lacking.met) == ("fast", False)
    assert [[call.note for call in row.calls] for row in rows] == [["", ABSENT], [ABSENT, "it was not there"]]


def test_a_call_that_failed_is_a_row_and_fails_the_others() -> None:
    rows = RowsByCall("x", HERE)
    for failure in ("", "it fell over", "it fell again"):
        if not failure:
            rows.add(fast(700.0))
        rows.end_call(failure)
    row, failed = rows
    assert [call.value for call in row.calls] == [700.0, None, None]
    assert (failed.name, failed.met) == ("x.failed", False)
    assert [call.note for call in failed.calls] == [ABSENT, "it fell over", "it fell again"]
