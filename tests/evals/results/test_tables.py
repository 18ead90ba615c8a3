"""The tables of the documents: all calls, the worst call, the commit, and the load of other processes."""

from itertools import chain

import pytest
from msgspec.structs import replace

from evals.results.row import Call, Gaps, Goal, Peer, Row
from evals.results.rows import ResultLine
from evals.results.tables import (
    MixedTable,
    describe_conditions,
    merge_calls,
    missed_goals,
    num_goals,
    render_table,
    render_value,
    size_options,
)
from tests.evals.results.test_rows_result_line import CONDITIONS, HERE

AT_LEAST = Goal(">=", 600)
TWICE = Goal(">=", 2, of_peer=True)


def fast(*values: float | None, goal: Goal | None = AT_LEAST, command: str = "python -m bench") -> ResultLine:
    calls = tuple(Call(value=value, goal=goal, note="" if value else "it fell over") for value in values)
    line = ResultLine.of(Row(name="fast", unit="events/s", calls=calls), HERE, CONDITIONS)
    return replace(line, command=command)


def beside_peers(*pairs: tuple[float, float]) -> ResultLine:
    calls = tuple(Call(value=ours, goal=TWICE, peers=(Peer("torch", theirs), Peer("x", 1.0))) for ours, theirs in pairs)
    return ResultLine.of(Row(name="twice", unit="events/s", calls=calls), HERE)


def test_a_row_has_the_calls_of_all_commands_of_one_size() -> None:
    (line,) = merge_calls([fast(700.0), fast(500.0, 900.0, command="python -m bench --only fast --calls 2")])
    assert [call.value for call in line.calls] == [700.0, 500.0, 900.0]
    assert (line.min, line.median, line.max, line.met) == (500.0, 700.0, 900.0, False)
    assert len(line.conditions) == 2


def test_rows_of_different_sizes_stay_separate_and_are_named_by_their_size() -> None:
    small = fast(700.0, command="python -m bench --only fast --set b=2 --set a=1")
    assert size_options(small) == "--set a=1 --set b=2"
    shown = render_table(merge_calls([fast(800.0), small]), {"fast": ""})
    assert "| `fast` (`as it is`) | 800 events/s |" in shown
    assert "| `fast` (`--set a=1 --set b=2`) | 700 events/s |" in shown


def test_a_row_shows_the_median_the_range_and_the_failed_calls() -> None:
    assert render_value(fast(700.0)) == "700"
    assert render_value(fast(1700.4, 0.12345, 900.0)) == "900 (0.1235 to 1,700)"
    assert render_value(fast(700.0, None)) == "700, 1 of 2 calls without a value: it fell over"
    assert render_value(fast(None)) == "none: it fell over"


def test_a_row_shows_its_best_peer_and_the_missing_peers() -> None:
    assert "| 2.5x (2x to 3x) of torch: 300 |" in render_table([beside_peers((900, 300), (600, 300))], {"twice": ""})
    gaps = Gaps(missing=("OpenVINO",), unfinished=("torchao",))
    call = Call(value=9.0, goal=TWICE, peers=(Peer("torch", 3.0),), gaps=gaps)
    line = ResultLine.of(Row(name="x", unit="", calls=(call,)), HERE)
    assert "3x of torch: 3; not at its best: OpenVINO, torchao |" in render_table([line], {"x": ""})


def test_a_table_names_its_commit_machine_and_commands() -> None:
    shown = render_table([fast(700.0), beside_peers((900, 300))], {"*": ""})
    assert "At b24c41f, on 2 x processor:" in shown
    assert shown.count("- `python -m bench`: ") == 1


@pytest.mark.parametrize("other", [{"commit": "abc1234"}, {"machine": "1 x processor"}])
def test_a_table_has_one_commit_and_one_machine(other: dict[str, str]) -> None:
    with pytest.raises(MixedTable, match=next(iter(other.values()))):
        render_table([fast(700.0), replace(beside_peers((900, 300)), **other)], {"*": ""})


def test_a_pattern_without_a_row_was_not_measured() -> None:
    assert "| how fast | not measured | | | |" in render_table([], {"fast": "how fast"})


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        (fast(700.0, 500.0, 400.0), "`fast` | >= 600 | 500 | 400 |"),
        (fast(60.0, 70.0, goal=Goal("<=", 65)), "`fast` | <= 65 | 65 | 70 |"),
        (beside_peers((900, 300), (300, 300)), "`twice` | >= 2x | 2x | 1x |"),
        (fast(700.0, None), "`fast` | >= 600 | 700 | no value: it fell over |"),
    ],
)
def test_a_missed_goal_has_its_worst_call_next_to_the_median(line: ResultLine, cells: str) -> None:
    assert f"| {cells}" in missed_goals([line])


def test_met_goals_are_counted_but_not_listed() -> None:
    lines = [fast(700.0), fast(500.0), fast(700.0, goal=None), fast(None, goal=None)]
    assert missed_goals(lines[:1]) == "None.\n"
    assert num_goals(lines) == (2, 3)


def test_the_load_of_other_processes_is_given_in_numbers() -> None:
    twice = list(chain(CONDITIONS, CONDITIONS))
    load = "other processes took up to 0.95 processors (python pytest 0.93), the host up to 0.4 %"
    assert describe_conditions(twice) == f"{load}; load before 0.1, after 1.9"
    assert describe_conditions([]) == "what ran beside it was not recorded"
