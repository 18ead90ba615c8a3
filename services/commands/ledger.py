"""`lifelong ledger`: measures the techniques of the model family against their bars."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo

RowOption = Annotated[list[str] | None, typer.Option("--row", metavar="ID", help="One row, as E7; may be repeated")]
QuickOption = Annotated[bool, typer.Option("--quick", help="Mechanism and direction in seconds; stores nothing")]
DocsOption = Annotated[
    Path | None,
    typer.Option(
        "--docs", help="Folder of ledger.md and ledger.jsonl [default: docs of the checkout]", file_okay=False
    ),
]
SeedsOption = Annotated[
    int, typer.Option("--seeds", min=1, max=3, help="Fewer than three: a short run, and the document says so")
]
AnewOption = Annotated[bool, typer.Option("--anew", help="Measure also the seeds that were measured at this commit")]


@reads_settings
def ledger(
    context: CliContext,
    row: RowOption = None,
    quick: QuickOption = False,
    as_json: JsonOption = False,
    docs: DocsOption = None,
    anew: AnewOption = False,
    seeds: SeedsOption = 3,
) -> None:
    """Measure rows of the ledger with three seeds, print them, and write docs/ledger.md.

    A run that was stopped goes on with the seeds that it lacks, as long as commit and machine are the same.
    """
    from evals.ledger.document import store
    from evals.ledger.measured import MeasuredSeeds
    from evals.ledger.register import EXPERIMENTS
    from evals.ledger.run import run_all
    from evals.results.rows import HEADER, ResultLine, Surroundings, encode
    from services.machine import machine, versions
    from services.versions import ROOT, commit

    known = [experiment.id for experiment in EXPERIMENTS]
    wanted = [name.upper() for name in row or known]
    if unknown := [name for name in wanted if name not in known]:
        raise typer.BadParameter(f"there is no row {unknown[0]}; there are {', '.join(known)}")

    def say(text: str) -> None:
        echo(text, is_error=as_json)

    here = Surroundings(
        machine=machine(), versions=versions(), command=shlex.join(["lifelong", *sys.argv[1:]]), commit=commit()
    )
    say(f"{here.machine}\n{HEADER}")
    lines: list[ResultLine] = []
    for line in run_all(
        [experiment for experiment in EXPERIMENTS if experiment.id in wanted],
        is_quick=quick,
        data=context.load().settings.data,
        surroundings=here,
        say=say,
        measured=MeasuredSeeds(None if quick or anew else ROOT / "build" / "ledger", here),
        num_seeds=seeds,
    ):
        lines.append(line)
        if as_json:
            echo(encode(line).decode().rstrip("\n"))
    folder = docs or ROOT / "docs"
    if not quick and folder.is_dir():
        store(lines, EXPERIMENTS, folder)
        say(f"Stored in {folder}")
