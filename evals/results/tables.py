"""Makes the tables of the documents of the rows that were measured.

ResultLine, ... --pooled--> a line for each row, with all its calls --table, missed_goals--> Markdown

A table is of one commit and of one machine, which its last lines name, with the commands and with what ran beside them.
No call is left out: where a row was measured by several commands of one size, it has the calls of all of them.
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
"""Processors: others that take less on average are not named."""


class MixedTable(ValueError):
    """Rows of several commits or machines are in one table."""


def size_of(line: ResultLine) -> str:
    """Returns the options of a command that change the size of a benchmark: `--set rates=20 --set mixed=0`."""
    values = sorted(value for word, value in pairwise(shlex.split(line.command)) if word == "--set")
    return " ".join(f"--set {value}" for value in values)


def pooled(lines: Iterable[ResultLine]) -> list[ResultLine]:
    """Returns one line for all lines of a row that were measured at one commit, machine and size."""
    groups: dict[tuple[str, ...], list[ResultLine]] = {}
    for line in lines:
        groups.setdefault((line.name, line.commit, line.machine, size_of(line)), []).append(line)
    return [_joined(group) for group in groups.values()]


def table(lines: Sequence[ResultLine], words: Mapping[str, str]) -> str:
    """Returns the rows that match the patterns of `words`, in their order, and how they were measured.

    A pattern may have words for the reader, which stand in the place of the row's name. One that no row matches says
    that it was not measured. Raises MixedTable.
    """
    found = list(chain.from_iterable(_matching(pattern, lines) for pattern in words))
    chosen = [line for _, line in found]
    check_source(chosen)
    rows = [_row(line, words[pattern] or f"`{line.name}`", is_alone=_is_alone(line, chosen)) for pattern, line in found]
    known = {pattern for pattern, _ in found}
    lacking = [f"| {said or f'`{each}`'} | not measured | | | |" for each, said in words.items() if each not in known]
    head = ["| row | value | goal | met | best peer of the same call |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, *lacking, "", *_sources(chosen)]).strip() + "\n"


def _matching(pattern: str, lines: Iterable[ResultLine]) -> list[tuple[str, ResultLine]]:
    return [(pattern, line) for line in lines if fnmatchcase(line.name, pattern)]


def check_source(lines: Iterable[ResultLine]) -> None:
    """Raises MixedTable unless all lines are of one commit and one machine."""
    sources = {(line.commit, line.machine) for line in lines}
    if len(sources) > 1:
        raise MixedTable(f"rows of several commits or machines in one table: {sorted(sources)}")


def missed_goals(lines: Iterable[ResultLine]) -> str:
    """Returns a table of the rows that do not meet their goal, each with its worst call."""
    rows = [
        f"| `{line.name}` {size_of(line)}".rstrip()
        + f" | {line.goal or ''} | {_median(line)} | {_worst(line)} | {line.unit} |"
        for line in lines
        if line.met is False
    ]
    head = ["| row | goal | median | worst call | unit |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n" if rows else "None.\n"


def num_goals(lines: Sequence[ResultLine]) -> tuple[int, int]:
    """Returns how many rows miss their goal, and how many have one, or have failed."""
    return sum(line.met is False for line in lines), sum(line.goal is not None or line.met is False for line in lines)


def beside(conditions: Sequence[Conditions]) -> str:
    """Says what ran beside the calls, at most."""
    if not conditions:
        return "what ran beside it was not recorded"
    during = [each.during for each in conditions]
    busiest: dict[str, float] = {}
    for stretch in during:
        for name, share in stretch.busiest.items():
            busiest[name] = max(share, busiest.get(name, 0.0))
    named = ", ".join(f"{name} {share:g}" for name, share in busiest.items() if share >= QUIET)
    others = f"{max(stretch.others for stretch in during):g} processors" + (f" ({named})" if named else "")
    steal = max(stretch.steal for stretch in during)
    before = _range([each.before.load for each in conditions])
    after = _range([each.after.load for each in conditions])
    return f"other processes took up to {others}, the host up to {steal:g} %; load before {before}, after {after}"


def value_of(line: ResultLine) -> str:
    """Returns the median, with the lowest and the highest value where they differ, or why there is no value."""
    notes = "; ".join(dict.fromkeys(_cell(call.note) for call in line.calls if call.value is None and call.note))
    num_failed = sum(call.value is None for call in line.calls)
    if line.median is None or line.min is None or line.max is None:
        return f"none: {notes}" if notes else "none"
    failed = f", {num_failed} of {len(line.calls)} calls without a value: {notes}" if num_failed else ""
    shown = number(line.median)
    return shown + (f" ({number(line.min)} to {number(line.max)})" if line.min != line.max else "") + failed


def number(value: float) -> str:
    """Returns a number with four digits, or all of those before the point.

    >>> number(1252.6), number(0.96612)
    ('1,253', '0.9661')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _joined(lines: Sequence[ResultLine]) -> ResultLine:
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
    """Whether no other line of the table has this row in another size."""
    return not any(other.name == line.name and size_of(other) != size_of(line) for other in lines)


def _row(line: ResultLine, words: str, *, is_alone: bool) -> str:
    size = "" if is_alone else f" (`{size_of(line) or 'as it is'}`)"
    value = f"{value_of(line)} {line.unit}".strip() if line.median is not None else value_of(line)
    return f"| {words}{size} | {value} | {line.goal or ''} | {MET[line.met]} | {_peer(line)} |"


def _peer(line: ResultLine) -> str:
    """Returns the ratio to the best peer of each call, with the name and value of the one in the middle."""
    ratios = spread(call.ratio for call in line.calls)
    best = [_best(call) for call in line.calls if call.peers]
    if not best:
        return ""
    name, value = sorted(best, key=lambda peer: peer[1])[len(best) // 2]
    factor = f"{_ratios(ratios)} of " if ratios else ""
    gaps = dict.fromkeys(chain.from_iterable((*call.missing, *call.unfinished) for call in line.calls))
    return f"{factor}{name}: {number(value)}" + (f"; not at its best: {', '.join(gaps)}" if gaps else "")


def _ratios(ratios: Spread) -> str:
    shown = f"{ratios.median:.3g}x"
    return shown if ratios.min == ratios.max else f"{shown} ({ratios.min:.3g}x to {ratios.max:.3g}x)"


def _best(call: ResultCall) -> tuple[str, float]:
    """Returns the first peer: they are recorded with the best one first."""
    return next(iter(call.peers.items()))


def _sources(lines: Sequence[ResultLine]) -> Iterator[str]:
    """Yields the commit and machine, and each command with what ran beside it."""
    if not lines:
        return
    yield f"At {lines[0].commit}, on {lines[0].machine}:\n"
    by_command: dict[str, list[Conditions]] = {}
    for line in lines:
        known = by_command.setdefault(line.command, [])
        known += [each for each in line.conditions if each not in known]
    for command, conditions in by_command.items():
        yield f"- `{command}`: {beside(conditions)}"


def _range(loads: Sequence[float]) -> str:
    return f"{min(loads):g}" if min(loads) == max(loads) else f"{min(loads):g} to {max(loads):g}"


def _cell(note: str) -> str:
    """Returns a note as it fits into a cell: one line, and not a whole log."""
    return shorten(note.replace("|", "/"), MAX_NOTE)


def _median(line: ResultLine) -> str:
    if line.median is None:
        return "none"
    ratios = spread(call.ratio for call in line.calls)
    is_of_peer = line.goal is not None and line.goal.endswith("x")
    return f"{ratios.median:.3g}x" if is_of_peer and ratios else number(line.median)


def _worst(line: ResultLine) -> str:
    """Returns the value of the call that misses the goal most; a call without a value is worse than any other."""
    failed = [call for call in line.calls if call.value is None]
    if failed:
        return f"no value: {_cell(failed[0].note)}"
    is_of_peer = line.goal is not None and line.goal.endswith("x")
    values = spread(call.ratio if is_of_peer else call.value for call in line.calls)
    if values is None:
        return "none"
    worst = values.max if line.goal and line.goal.startswith("<=") else values.min
    return f"{worst:.3g}x" if is_of_peer else number(worst)
