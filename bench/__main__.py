"""`python -m bench [--only NAME [--set ...]] [--calls N]`: measures, prints each row, appends to results.jsonl.

for each call:  fixtures --> for each benchmark:  measure(fixtures) --> rows, printed as they come
after its last call, the rows of a benchmark with the values of all calls --> build/bench/results.jsonl
after an error or Control-C, those of the calls so far
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

from msgspec.structs import replace

from bench.benches import BENCHES, Bench
from bench.fixtures import BadOption, Fixtures, parse_assignments
from bench.machine import PACKAGES, machine, servers_given, versions
from bench.process import RESULTS, exclusive
from evals.results.conditions import ConditionsWatch
from evals.results.row import NoResult, Skip
from evals.results.rows import HEADER, RowsByCall, Surroundings, line
from services.versions import commit

BUSY = 0.5
"""The load of other processes, in cores, above which a warning is printed."""

MAX_CALLS = 20

INTERRUPTED = "an error or Control-C has ended the call"


def main() -> int:
    """Returns the exit code, which is 0 whether goals are met or not: a benchmark is no test."""
    arguments = _arguments()
    options = parse_assignments(arguments.assignments)
    chosen = [bench for bench in BENCHES if bench.name == arguments.only or not (arguments.only or bench.is_long)]
    start_s = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - start_s:5.0f} s] {text}", flush=True)

    with exclusive(say):
        say(machine())
        if (load := os.getloadavg()[0]) > BUSY:
            say(f"This machine is busy (load {load:.1f}): the figures will be worse than they could be.")
        if not arguments.only:
            say(f"Only by name (make bench ONLY=name): {', '.join(bench.name for bench in BENCHES if bench.is_long)}")
        say(HEADER)
        with recorded(chosen, _command()) as rows:
            for number in range(1, arguments.calls + 1):
                with closing(Fixtures(say, options, is_bounded=not arguments.only)) as fixtures:
                    for bench in chosen:
                        say(f"{bench.name}, call {number} of {arguments.calls} ...")
                        _run(bench, fixtures, rows[bench.name])
                        if number == arguments.calls:
                            rows.pop(bench.name).record(RESULTS)
    return 0


@contextmanager
def recorded(benches: Sequence[Bench], command: str, path: Path = RESULTS) -> Iterator[dict[str, RowsByCall]]:
    """Yields the rows of each benchmark, by its name. What is still in there when it is left is recorded then."""
    found = versions(set(chain.from_iterable(bench.uses for bench in benches)))
    given = servers_given()
    surroundings = Surroundings(machine=machine(), versions=found, command=command, commit=commit())
    rows: dict[str, RowsByCall] = {}
    for bench in benches:
        known = found if bench.has_own_servers else found | given
        used = {name: known[name] for name in ("python", *PACKAGES, *bench.uses)}
        rows[bench.name] = RowsByCall(bench.name, replace(surroundings, versions=used))
    try:
        yield rows
    finally:
        for left in rows.values():
            left.record(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=[bench.name for bench in BENCHES], help="one benchmark instead of all")
    help = "a part of the size of that benchmark, such as seed=7; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments", help=help)
    help = "how often each is repeated (1); a goal is met where every call meets it"
    parser.add_argument("--calls", type=int, choices=range(1, MAX_CALLS + 1), default=1, metavar="N", help=help)
    return parser.parse_args()


def _command() -> str:
    return shlex.join(["python", "-m", "bench", *sys.argv[1:]])


def _run(bench: Bench, fixtures: Fixtures, rows: RowsByCall) -> None:
    """Runs one call of a benchmark, and prints each of its rows when it is measured."""
    start_s = time.monotonic()
    failure = INTERRUPTED
    watch = ConditionsWatch()
    try:
        with watch:
            for row in bench.measure(fixtures):
                fixtures.say(line(rows.add(row)))
        failure = ""
    except Skip as why:
        failure = ""
        fixtures.say(f"{bench.name}: skipped: {why}")
    except NoResult as why:
        failure = str(why)
    finally:
        without = rows.end_call(failure, conditions=watch.conditions)
    for row in without:
        fixtures.say(line(row))
    fixtures.say(f"{bench.name} took {time.monotonic() - start_s:.0f} s")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BadOption as error:
        sys.exit(f"bench: {error}")
