"""`python -m bench [--only NAME [--set ...]]`: measures, prints a table, appends to build/bench/results.jsonl."""

import argparse
import os
import sys
from contextlib import closing

from rich.console import Console

from bench.benches import BENCHES, Bench
from bench.fixtures import Fixtures
from bench.options import parse_assignments
from bench.results import RESULTS, exclusive, record, table
from bench.row import Row, Skip

BUSY = 0.5
"""The load of other processes, in cores, above which a warning is printed."""

WIDTH = 140
"""The width of the table, in columns, where the output is no terminal."""


def main() -> int:
    """Returns the exit code, which is 0 whether goals are met or not: a benchmark is no test."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", choices=[bench.name for bench in BENCHES], help="one benchmark instead of all")
    help = "a part of the size of that benchmark, such as seed=7; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments", help=help)
    arguments = parser.parse_args()
    only = arguments.only
    options = parse_assignments(arguments.assignments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    with exclusive(console), closing(Fixtures(options)) as fixtures:
        if (load := os.getloadavg()[0]) > BUSY:
            console.print(f"This machine is busy (load {load:.1f}): the figures will be worse than they could be.")
        rows: list[Row] = []
        for bench in BENCHES:
            if only in (None, bench.name):
                rows += _run(bench, fixtures, console)
    console.print(table(rows))
    return 0


def _run(bench: Bench, fixtures: Fixtures, console: Console) -> list[Row]:
    console.print(f"{bench.name} ...")
    try:
        rows = list(bench.measure(fixtures))
    except Skip as why:
        console.print(f"{bench.name}: skipped: {why}", markup=False)
        return []
    record(rows, f"python -m bench --only {bench.name}", RESULTS)
    return rows


if __name__ == "__main__":
    sys.exit(main())
