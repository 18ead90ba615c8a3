"""Writes the ledger: `ledger.jsonl`, a line for each row that was run in full, and `ledger.md`, which shows them.

lines of a run --store--> ledger.jsonl --markdown--> ledger.md

The document is made of the register and the lines alone, so what was not run stands in it, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.techniques.experiment import SEEDS, Bar, Experiment
from evals.results.rows import ResultLine, decode, encode
from evals.results.tables import beside, check_source

LINES = "ledger.jsonl"
DOCUMENT = "ledger.md"

HEAD = """# The ledger

What each technique of the model family is held against, and what was measured. `python -m bench.techniques`
measures it again and writes this file from `ledger.jsonl`; with `--quick` it checks mechanism and direction in seconds.
A full run has three seeds; a short one has fewer and decides nothing. A bar is **met** if every seed meets it; the
value is the median, with the lowest and the highest. The baseline is of the same run, and so is what other processes
took of the machine meanwhile. What was not run says so.
"""


def read_lines(folder: Path) -> dict[str, ResultLine]:
    """Returns the stored lines by the name of their row. Raises msgspec.ValidationError for another format."""
    path = folder / LINES
    lines = map(decode, path.read_text().splitlines()) if path.exists() else ()
    return {line.name: line for line in lines}


def store(lines: Iterable[ResultLine], experiments: Sequence[Experiment], folder: Path) -> None:
    """Puts lines in the place of the stored ones of the same rows, and writes the document anew."""
    known = read_lines(folder) | {line.name: line for line in lines}
    names = [experiment.name_of(bar) for experiment in experiments for bar in experiment.bars]
    kept = {name: known[name] for name in names if name in known}
    (folder / LINES).write_bytes(b"".join(map(encode, kept.values())))
    (folder / DOCUMENT).write_text(markdown(experiments, kept))


def markdown(experiments: Sequence[Experiment], lines: Mapping[str, ResultLine]) -> str:
    """Returns the document. Raises MixedTable where the rows of an experiment are of several commits or machines."""
    machines = list(dict.fromkeys(line.machine for line in lines.values()))
    parts = [HEAD, *(_section(experiment, lines, machines) for experiment in experiments)]
    if machines:
        named = "\n".join(f"{number}. {machine}" for number, machine in enumerate(machines, 1))
        parts.append(f"## Machines\n\n{named}\n")
    return "\n".join(parts)


def _section(experiment: Experiment, lines: Mapping[str, ResultLine], machines: Sequence[str]) -> str:
    names = [experiment.name_of(bar) for bar in experiment.bars]
    check_source(lines[name] for name in names if name in lines)
    rows = [_row(bar, lines.get(name), machines) for bar, name in zip(experiment.bars, names, strict=True)]
    return "\n".join(
        (
            f"## {experiment.id}: {experiment.title}\n",
            f"{experiment.claim} {experiment.how}\n",
            "| number | value | bar | met | baseline | run |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        )
    )


def _row(bar: Bar, line: ResultLine | None, machines: Sequence[str]) -> str:
    name = f"`{bar.name}`, {bar.unit}"
    goal = str(bar.goal) if bar.goal else ""
    if line is None:
        return f"| {name} | not run | {goal} | | {bar.baseline} | |"
    if line.goal != (goal or None):
        goal = f"{goal}; the run had {line.goal}"
    met = {True: "yes", False: "**no**", None: ""}[line.met]
    num_seeds = len(line.calls)
    seeds = f"{num_seeds} seeds"
    if num_seeds < SEEDS:
        seeds = "short: 1 seed" if num_seeds == 1 else f"short: {seeds}"
        met = met and f"short: {met}"
    run = f"machine {machines.index(line.machine) + 1}, {line.commit}, `{line.command}`, {seeds}"
    cells = (name, _value(line), goal, met, _baseline(bar, line), f"{run}; {beside(line.conditions)}")
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
