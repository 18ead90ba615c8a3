"""Writes the ledger: `ledger.jsonl`, with a line for each measured bar, and `ledger.md`, which shows the lines.

lines of a run --taken_over--> ledger.jsonl --markdown--> ledger.md

The document is generated from the register and the lines, so it also lists bars that were not run.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.harness.case import SEEDS, Bar, Case, Technique
from evals.results.rows import ResultLine, decode, encode
from evals.results.tables import MET, check_source, describe_conditions

LINES = "ledger.jsonl"
DOCUMENT = "ledger.md"

HEAD = """# The ledger

This page holds each technique of the model family against its claim, with the measured values. "The article" is a
description of DeepSeek's lightweight architecture, which the model family follows.

`make bench ONLY=E7` measures a technique again, and `make figures` writes this file; `ARGS=--quick` checks mechanism
and direction in seconds. A bar is **met** if each of three seeds meets it; the value is the median, with the lowest and
the highest. The baseline is measured in the same run. A short run has fewer seeds and decides nothing.
"""


def read_lines(folder: Path, cases: Sequence[Case]) -> dict[str, ResultLine]:
    """Returns the stored lines of the bars of `cases`, by the name of their row, in the order of the bars.

    Raises msgspec.ValidationError if a line cannot be decoded.
    """
    path = folder / LINES
    return _of_bars(map(decode, path.read_text().splitlines()) if path.exists() else (), cases)


def merge_lines(lines: Iterable[ResultLine], cases: Sequence[Case], folder: Path) -> None:
    """Replaces the stored lines of the same rows by `lines`. Lines that belong to no bar are dropped."""
    kept = _of_bars([*read_lines(folder, cases).values(), *lines], cases)
    (folder / LINES).write_bytes(b"".join(map(encode, kept.values())))


def _of_bars(lines: Iterable[ResultLine], cases: Sequence[Case]) -> dict[str, ResultLine]:
    """Returns the lines that belong to a bar: the same name and the same unit, because the unit says what is measured.

    If a bar's unit has changed, its lines are values of something else.
    """
    known = {(line.name, line.unit): line for line in lines}
    bars = [(case.row_name(bar), bar.unit) for case in cases for bar in case.bars]
    return {name: known[name, unit] for name, unit in bars if (name, unit) in known}


def markdown(cases: Sequence[Case], lines: Mapping[str, ResultLine]) -> str:
    """Returns the document. Raises MixedTable if the rows of a case come from several commits or machines."""
    machines = list(dict.fromkeys(line.machine for line in lines.values()))
    parts = [HEAD]
    for case in cases:
        if case.technique is not None:
            parts.append(_section(case, case.technique, lines, machines))
    if machines:
        named = "\n".join(f"{number}. {machine}" for number, machine in enumerate(machines, 1))
        parts.append(f"## Machines\n\n{named}\n")
    return "\n".join(parts)


def _section(case: Case, technique: Technique, lines: Mapping[str, ResultLine], machines: Sequence[str]) -> str:
    names = [case.row_name(bar) for bar in case.bars]
    check_source(lines[name] for name in names if name in lines)
    rows = [_row(bar, lines.get(name), machines) for bar, name in zip(case.bars, names, strict=True)]
    head = [
        f"## {case.name}: {technique.title}\n",
        f"{technique.claim} {technique.how}\n",
        "| number | value | bar | met | baseline | run |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def _row(bar: Bar, line: ResultLine | None, machines: Sequence[str]) -> str:
    name = f"`{bar.name}`, {bar.unit}"
    goal = bar.goal or ""
    if line is None:
        return f"| {name} | not run | {goal} | | {bar.baseline} | |"
    if line.goal != (goal or None):
        goal = f"{goal}; the run had {line.goal}"
    met = MET[line.met]
    num_seeds = len(line.calls)
    seeds = f"{num_seeds} seeds"
    if num_seeds < SEEDS:
        seeds = "short: 1 seed" if num_seeds == 1 else f"short: {seeds}"
        met = met and f"short: {met}"
    run = f"machine {machines.index(line.machine) + 1}, {line.commit}, `{line.command}`, {seeds}"
    cells = (name, _value(line), goal, met, _baseline(bar, line), f"{run}; {describe_conditions(line.conditions)}")
    return f"| {' | '.join(map(str, cells))} |"


def _value(line: ResultLine) -> str:
    if line.median is None:
        return "; ".join(dict.fromkeys(["no result", *(call.note for call in line.calls if call.note)]))
    shown = f"{line.median:.4g}"
    spread = "" if line.min == line.max else f" ({line.min:.4g} to {line.max:.4g})"
    return shown + spread


def _baseline(bar: Bar, line: ResultLine) -> str:
    peers: dict[str, list[float]] = {}
    for call in line.calls:
        for name, value in call.peers.items():
            peers.setdefault(name, []).append(value)
    figures = [f"{name}: {sorted(values)[len(values) // 2]:.4g}" for name, values in peers.items()]
    notes = dict.fromkeys(call.note for call in line.calls if call.note and line.median is not None)
    return "; ".join([bar.baseline, *figures, *notes])
