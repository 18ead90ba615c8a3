"""`python -m bench.techniques [--row E7] [--quick]`: measures the techniques against their bars; writes docs/ledger.md.

A run that was stopped goes on with the seeds that it lacks, as long as commit and machine are the same.
"""

import argparse
import shlex
import sys
from pathlib import Path

from bench.machine import machine, versions
from bench.techniques.document import store
from bench.techniques.experiment import SEEDS
from bench.techniques.run import EXPERIMENTS, MeasuredSeeds, run_all
from bench.texts import data_folder
from evals.results.rows import HEADER, ResultLine, Surroundings, encode
from services.versions import ROOT, commit


def main() -> int:
    """Prints the rows of the experiments, and stores them unless the run is a quick one. Returns the exit code."""
    arguments = _arguments()
    wanted = arguments.row or [experiment.id for experiment in EXPERIMENTS]

    def say(text: str) -> None:
        print(text, file=sys.stderr if arguments.json else sys.stdout, flush=True)

    here = Surroundings(machine=machine(), versions=versions(), command=_command(), commit=commit())
    say(f"{here.machine}\n{HEADER}")
    keeps_seeds = not (arguments.quick or arguments.anew)
    lines: list[ResultLine] = []
    for line in run_all(
        [experiment for experiment in EXPERIMENTS if experiment.id in wanted],
        is_quick=arguments.quick,
        data=data_folder(),
        surroundings=here,
        say=say,
        measured=MeasuredSeeds(ROOT / "build" / "ledger" if keeps_seeds else None, here),
        num_seeds=arguments.seeds,
    ):
        lines.append(line)
        if arguments.json:
            print(encode(line).decode().rstrip("\n"), flush=True)
    if not arguments.quick:
        store(lines, EXPERIMENTS, arguments.docs)
        say(f"Stored in {arguments.docs}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.techniques", description=(__doc__ or "").splitlines()[0])
    known = [experiment.id for experiment in EXPERIMENTS]
    parser.add_argument("--row", action="append", type=str.upper, choices=known, help="one row; may be repeated")
    parser.add_argument("--quick", action="store_true", help="mechanism and direction in seconds; stores nothing")
    parser.add_argument("--json", action="store_true", help="prints the rows as lines of JSON")
    help = "folder of ledger.md and ledger.jsonl (docs of the checkout)"
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="FOLDER", help=help)
    help = "fewer than three: a short run, and the document says so"
    parser.add_argument("--seeds", type=int, choices=range(1, SEEDS + 1), default=SEEDS, metavar="N", help=help)
    help = "measures also the seeds that were measured at this commit"
    parser.add_argument("--anew", action="store_true", help=help)
    return parser.parse_args()


def _command() -> str:
    return shlex.join(["python", "-m", "bench.techniques", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
