"""`python -m bench [--only NAME [--set ...]]`: measures, prints a table, appends to build/bench/results.jsonl."""

import argparse
import os
import sys
from contextlib import closing

from rich.console import Console

from bench.benches import BENCHES, Bench
from bench.options import read
from bench.results import RESULTS, alone, record, table
from bench.row import Row, Skip
from bench.supply import Supply

BUSY = 0.5
"""Load, in cores, of others."""

WIDTH = 140
"""Columns of the table where no terminal says how many there are."""


def main() -> int:
    """The exit code is 0 whether goals are met or not: a benchmark is no test."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", choices=[bench.name for bench in BENCHES], help="one benchmark instead of all")
    help = "a part of the size of that benchmark, such as seed=7; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments", help=help)
    given = parser.parse_args()
    only = given.only
    options = read(given.assignments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    with alone(console), closing(Supply(options)) as supply:
        if (load := os.getloadavg()[0]) > BUSY:
            console.print(f"This machine is busy (load {load:.1f}): the figures will be worse than they could be.")
        chosen = [bench for bench in BENCHES if only in (None, bench.name)]
        rows = [row for bench in chosen for row in _run(bench, supply, console)]
    console.print(table(rows))
    return 0


def _run(bench: Bench, supply: Supply, console: Console) -> list[Row]:
    console.print(f"{bench.name} ...")
    try:
        rows = list(bench.measure(supply))
    except Skip as why:
        console.print(f"{bench.name}: skipped: {why}", markup=False)
        return []
    record(rows, f"python -m bench --only {bench.name}", RESULTS)
    return rows


if __name__ == "__main__":
    sys.exit(main())
