"""`python -m bench [--only NAME [--set ...]] [--calls N] [--quick]`: measures, prints rows, appends to results.jsonl.

for each call:  fixtures --> for each case:  measure(run) --> rows, printed as they come
after the last call of a case:  its rows with the values of all calls --> build/bench/results.jsonl
after an error or Control-C:    its rows with the values of the calls so far --> build/bench/results.jsonl
"""

import argparse
import os
import shlex
import sys
import time
from contextlib import closing

from bench.harness.calls import KeptCalls, measure_once, recording, surroundings_by_case
from bench.harness.case import BadOption, Fixtures, Run, parse_assignments
from bench.harness.cases import CASES
from bench.harness.machine import machine
from bench.harness.process import BUILD, RESULTS, exclusive
from evals.results.rows import HEADER

BUSY = 0.5
"""The load of other processes, in cores, above which a warning is printed."""

MAX_CALLS = 20

KEPT = BUILD / "bench" / "calls"
"""The folder of the rows that each seed of the ledger has measured."""


def main() -> int:
    """Returns the exit code. It is 0 even if goals are missed: a benchmark is not a test."""
    arguments = _arguments()
    options = parse_assignments(arguments.assignments)
    cases = [case for case in CASES if not case.is_long]
    if arguments.only:
        cases = [case for case in CASES if case.name in arguments.only]
    without_quick = [case.name for case in cases if not case.has_quick]
    if arguments.quick and without_quick:
        raise BadOption(f"there is no quick run of {', '.join(without_quick)}; make the size smaller with --set")
    num_calls: dict[str, int] = {}
    for case in cases:
        num_calls[case.name] = arguments.calls or (1 if arguments.quick else case.num_calls)
    start_s = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - start_s:5.0f} s] {text}", flush=True)

    with exclusive(say):
        say(machine())
        if (load := os.getloadavg()[0]) > BUSY:
            say(f"This machine is busy (load {load:.1f}), so the figures will be worse. Stop the other processes.")
        if not arguments.only:
            long_cases = [case.name for case in CASES if case.is_long]
            say(f"Long cases run only by name (make bench ONLY=name): {', '.join(long_cases)}")
        say(HEADER)
        surroundings = surroundings_by_case(cases, shlex.join(["python", "-m", "bench", *sys.argv[1:]]))
        keeps = not (arguments.quick or arguments.anew)
        with recording(surroundings, None if arguments.quick else RESULTS) as rows:
            for number in range(max(num_calls.values())):
                with closing(Fixtures()) as fixtures:
                    for case in cases:
                        if number >= num_calls[case.name]:
                            continue
                        say(f"{case.name}, call {number + 1} of {num_calls[case.name]} ...")
                        run = Run(
                            case=case,
                            say=say,
                            seed=number,
                            is_quick=arguments.quick,
                            is_bounded=not arguments.only,
                            options=options,
                            fixtures=fixtures,
                        )
                        measure_once(run, rows[case.name], KeptCalls(KEPT if keeps else None, surroundings[case.name]))
                        if number + 1 == num_calls[case.name] and not arguments.quick:
                            rows.pop(case.name).record(RESULTS)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    names = [case.name for case in CASES]
    help = "measure this case instead of all cases that are not long; may be repeated"
    parser.add_argument("--only", action="append", default=[], choices=names, metavar="NAME", help=help)
    help = "set an option of the case's size, for example seed=7; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments", help=help)
    help = "calls of each case (default 1; in the ledger 3, each with a seed); a goal is met if every call meets it"
    parser.add_argument("--calls", type=int, choices=range(1, MAX_CALLS + 1), metavar="N", help=help)
    help = "check mechanism and direction in seconds or minutes, for cases that have a quick run; records nothing"
    parser.add_argument("--quick", action="store_true", help=help)
    help = "measure seeds of the ledger again, even if this commit has kept their rows"
    parser.add_argument("--anew", action="store_true", help=help)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BadOption as error:
        sys.exit(f"bench: {error}")
