"""Renders measured rows as the tables of the documents, in Markdown.

ResultLine, ... --merge_calls--> a line for each row, with all its calls --render_table, missed_goals--> Markdown

All rows of a table are from one commit and one machine. The last lines of the table name them, with the commands and
the load of other processes. No call is left out: if several commands of the same size measured a row, the row has the
calls of all of them.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain, pairwise
from textwrap import shorten

from msgspec.structs import replace

from evals.results.conditions import Conditions
from evals.results.row import Spread, all_met, spread
from evals.results.rows import ResultCall, ResultLine

MET = {True: "yes", False: "**no**", None: ""}

MAX_NOTE = 200

QUIET = 0.05
"""Other processes that take fewer processors on average are not named."""


class MixedTable(ValueError):
    """A table has rows from several commits or machines."""


def size_options(line: ResultLine) -> str:
    """Returns the options of the command that set the size of the benchmark: `--set rates=20 --set mixed=0`."""
    values = sorted(value for word, value in pairwise(shlex.split(line.command)) if word == "--set")
    return " ".join(f"--set {value}" for value in values)


def merge_calls(lines: Iterable[ResultLine]) -> list[ResultLine]:
    """Merges the lines of a row that have the same commit, machine and size: one line with the calls of all of them."""
    groups: dict[tuple[str, ...], list[ResultLine]] = {}
    for line in lines:
        groups.setdefault((line.name, line.commit, line.machine, size_options(line)), []).append(line)
    return [_merge(group) for group in groups.values()]


def render_table(lines: Sequence[ResultLine], words: Mapping[str, str]) -> str:
    """Returns a table of the rows that match the patterns in `words`, in their order, with the sources below it.

    The value of a pattern is the description of the row for readers ("": the row's name). A pattern without a matching
    row becomes a row that says "not measured". Raises MixedTable.
    """
    matches = list(chain.from_iterable(_matching(pattern, lines) for pattern in words))
    chosen = [line for _, line in matches]
    check_source(chosen)
    rows = [
        _row(line, words[pattern] or f"`{line.name}`", is_alone=_is_alone(line, chosen)) for pattern, line in matches
    ]
    matched = {pattern for pattern, _ in matches}
    for pattern, description in words.items():
        if pattern not in matched:
            rows.append(f"| {description or f'`{pattern}`'} | not measured | | | |")
    head = ["| row | value | goal | met | best peer of the same call |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "", *_sources(chosen)]).strip() + "\n"


def _matching(pattern: str, lines: Iterable[ResultLine]) -> list[tuple[str, ResultLine]]:
    return [(pattern, line) for line in lines if fnmatchcase(line.name, pattern)]


def check_source(lines: Iterable[ResultLine]) -> None:
    """Raises MixedTable unless all lines are from one commit and one machine."""
    sources = {(line.commit, line.machine) for line in lines}
    if len(sources) > 1:
        raise MixedTable(f"rows of several commits or machines in one table: {sorted(sources)}")


def missed_goals(lines: Iterable[ResultLine]) -> str:
    """Returns a table of the rows that do not meet their goal, each with its worst call."""
    rows = [
        f"| `{line.name}` {size_options(line)}".rstrip()
        + f" | {line.goal or ''} | {_median(line)} | {_worst(line)} | {line.unit} |"
        for line in lines
        if line.met is False
    ]
    head = ["| row | goal | median | worst call | unit |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n" if rows else "None.\n"


def num_goals(lines: Sequence[ResultLine]) -> tuple[int, int]:
    """Returns the number of rows that miss their goal, and the number of rows that have a goal or have failed."""
    num_missed = sum(line.met is False for line in lines)
    num_judged = sum(line.goal is not None or line.met is False for line in lines)
    return num_missed, num_judged


def describe_conditions(conditions: Sequence[Conditions]) -> str:
    """Returns a sentence about the load of other processes during the calls: the maximum over the calls."""
    if not conditions:
        return "what ran beside it was not recorded"
    during = [condition.during for condition in conditions]
    busiest: dict[str, float] = {}
    for period in during:
        for name, num_cores in period.busiest.items():
            busiest[name] = max(num_cores, busiest.get(name, 0.0))
    named = ", ".join(f"{name} {num_cores:g}" for name, num_cores in busiest.items() if num_cores >= QUIET)
    others = f"{max(period.others for period in during):g} processors" + (f" ({named})" if named else "")
    steal = max(period.steal for period in during)
    before = _range([condition.before.load for condition in conditions])
    after = _range([condition.after.load for condition in conditions])
    return f"other processes took up to {others}, the host up to {steal:g} %; load before {before}, after {after}"


def render_value(line: ResultLine) -> str:
    """Returns the median, with the range if the values differ, or the reason why there is no value."""
    notes = "; ".join(dict.fromkeys(_cell(call.note) for call in line.calls if call.value is None and call.note))
    num_failed = sum(call.value is None for call in line.calls)
    if line.median is None or line.min is None or line.max is None:
        return f"none: {notes}" if notes else "none"
    failed = f", {num_failed} of {len(line.calls)} calls without a value: {notes}" if num_failed else ""
    bounds = f" ({render_number(line.min)} to {render_number(line.max)})" if line.min != line.max else ""
    return render_number(line.median) + bounds + failed


def render_number(value: float) -> str:
    """Returns a number with four significant digits, and with all digits before the decimal point.

    >>> render_number(1252.6), render_number(0.96612)
    ('1,253', '0.9661')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _merge(lines: Sequence[ResultLine]) -> ResultLine:
    """Returns a line with the calls of all lines."""
    calls = tuple(chain.from_iterable(line.calls for line in lines))
    values = spread(call.value for call in calls)
    verdicts = [line.met for line in lines]
    return replace(
        lines[-1],
        goal=", ".join(dict.fromkeys(line.goal for line in lines if line.goal)) or None,
        met=all_met(verdicts),
        min=values and values.min,
        median=values and values.median,
        max=values and values.max,
        calls=calls,
        conditions=tuple(chain.from_iterable(line.conditions for line in lines)),
    )


def _is_alone(line: ResultLine, lines: Iterable[ResultLine]) -> bool:
    """Returns whether the table has this row in one size only."""
    return not any(other.name == line.name and size_options(other) != size_options(line) for other in lines)


def _row(line: ResultLine, words: str, *, is_alone: bool) -> str:
    size = "" if is_alone else f" (`{size_options(line) or 'as it is'}`)"
    value = render_value(line)
    if line.median is not None:
        value = f"{value} {line.unit}".strip()
    return f"| {words}{size} | {value} | {line.goal or ''} | {MET[line.met]} | {_peer(line)} |"


def _peer(line: ResultLine) -> str:
    """Returns the spread of the ratios to the best peers of the calls, with the name and value of the median peer."""
    ratios = spread(call.ratio for call in line.calls)
    best = [_best(call) for call in line.calls if call.peers]
    if not best:
        return ""
    name, value = sorted(best, key=lambda peer: peer[1])[len(best) // 2]
    factor = f"{_ratios(ratios)} of " if ratios else ""
    gaps = dict.fromkeys(chain.from_iterable((*call.missing, *call.unfinished) for call in line.calls))
    return f"{factor}{name}: {render_number(value)}" + (f"; not at its best: {', '.join(gaps)}" if gaps else "")


def _ratios(ratios: Spread) -> str:
    shown = f"{ratios.median:.3g}x"
    return shown if ratios.min == ratios.max else f"{shown} ({ratios.min:.3g}x to {ratios.max:.3g}x)"


def _best(call: ResultCall) -> tuple[str, float]:
    """Returns the best peer of a call, which is recorded first."""
    return next(iter(call.peers.items()))


def _sources(lines: Sequence[ResultLine]) -> Iterator[str]:
    """Yields a line with the commit and the machine, and a line for each command with the load of other processes."""
    if not lines:
        return
    yield f"At {lines[0].commit}, on {lines[0].machine}:\n"
    by_command: dict[str, list[Conditions]] = {}
    for line in lines:
        listed = by_command.setdefault(line.command, [])
        listed += [conditions for conditions in line.conditions if conditions not in listed]
    for command, conditions in by_command.items():
        yield f"- `{command}`: {describe_conditions(conditions)}"


def _range(loads: Sequence[float]) -> str:
    return f"{min(loads):g}" if min(loads) == max(loads) else f"{min(loads):g} to {max(loads):g}"


def _cell(note: str) -> str:
    """Returns a note for a table cell: one line, shortened to MAX_NOTE characters."""
    return shorten(note.replace("|", "/"), MAX_NOTE)


def _median(line: ResultLine) -> str:
    if line.median is None:
        return "none"
    ratios = spread(call.ratio for call in line.calls)
    is_of_peer = line.goal is not None and line.goal.endswith("x")
    return f"{ratios.median:.3g}x" if is_of_peer and ratios else render_number(line.median)


def _worst(line: ResultLine) -> str:
    """Returns the value of the worst call. A call without a value is worse than all others."""
    failed = [call for call in line.calls if call.value is None]
    if failed:
        return f"no value: {_cell(failed[0].note)}"
    is_of_peer = line.goal is not None and line.goal.endswith("x")
    values = spread(call.ratio if is_of_peer else call.value for call in line.calls)
    if values is None:
        return "none"
    worst = values.max if line.goal and line.goal.startswith("<=") else values.min
    return f"{worst:.3g}x" if is_of_peer else render_number(worst)
