"""`lifelong search`: finds smaller encoders for the tasks and this machine, and trains the chosen one."""

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.model import BatchSize, Rate, Seed, Threads
from services.commands.output import echo, json_lines, progress

if TYPE_CHECKING:
    from lifelong.compress.search import Point


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchFlags:
    """The tasks, the limit, and how long to search and to train."""

    source: Annotated[str, typer.Option("--source", metavar="ENCODER", help="Encoder to make smaller")] = "minilm-l6"
    task: Annotated[
        list[str],
        typer.Option("--task", metavar="NAME|PATH", help="Data set, or folder with labelled lines; may be repeated"),
    ] = field(default_factory=lambda: ["support"])
    stored: Annotated[
        float, typer.Option("--stored", min=0.01, max=1, help="Largest share of the parameters to store")
    ] = 0.5
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Length of a text in service, for the latency")] = 16
    budget: Annotated[int, typer.Option("--budget", min=1, help="Encoders to evaluate")] = 200
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps of the supernet")] = 300
    max_texts: Annotated[int, typer.Option("--max-texts", min=3, help="Texts of each task that score encoders")] = 600
    checked: Annotated[
        int, typer.Option("--checked", min=2, help="Encoders that are retrained to choose how others are scored")
    ] = 15
    check_steps: Annotated[int, typer.Option("--check-steps", min=1, help="Training steps of each of these")] = 60
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also search at random, and among uniform patterns, as long again each")
    ] = False
    train: Annotated[
        str | None,
        typer.Option("--train", metavar="N|PROFILE", help="Also train this point of the front, or a profile's point"),
    ] = None
    retrain_steps: Annotated[int, typer.Option("--retrain-steps", min=1, help="Training steps of a point")] = 800
    batch: BatchSize = 32
    rate: Rate = 5e-4
    threads: Threads = 1
    seed: Seed = 0


@reads_settings
def search(context: CliContext, *, flags: SearchFlags, as_json: JsonOption = False) -> None:
    """Search for smaller encoders: which layers share matrices, and how narrow, sparse and coarse they are.

    Encoders are scored on a part of the tasks' training texts, and timed by the kernels of this machine. Prints the
    front: encoders that no other one beats in accuracy, size and latency. Continues after a kill.
    """
    import msgspec

    from services.members.search import Search, SearchOptions
    from services.profiles.encoders import choose_point, named_points

    settings = context.process()
    values = {each.name: getattr(flags, each.name) for each in fields(SearchOptions) if each.name != "tasks"}
    options = SearchOptions(tasks=tuple(flags.task), **values)
    with progress() as say:
        running = Search(options, data=settings.data, state_dir=settings.state_dir, say=say)
        found = running.run()
        compared = {"search": running.evaluated} | (running.baselines() if flags.baselines else {})
        if flags.train is not None:
            running.train(choose_point(found, flags.train).genes)
            found = running.write_front()
    named = named_points(found)
    best = {name: max(points, key=lambda point: point.score) for name, points in compared.items()}
    if as_json:
        names = {name: point.genes for name, point in named.items()}
        echo(*json_lines(msgspec.to_builtins(found) | msgspec.to_builtins({"names": names, "best": best})))
        return
    taus = ", ".join(f"{name} {tau:.2f}" for name, tau in found.taus.items())
    echo(f"Kendall's tau with the accuracy after retraining: {taus}. Scores are by {found.proxy}.")
    for number, point in enumerate(found.points):
        echo(_line(number, point, " ".join(name for name, each in named.items() if each == point)))
        if (trained := found.trained_as(point.genes)) is not None:
            echo(f"    trained: {trained.line()}")
    for name, point in best.items() if flags.baselines else ():
        echo(f"best of {name}: score {point.score:.4f}: {point.genes.shown()}")


def _line(number: int, point: "Point", name: str) -> str:
    costs = f"{point.share:.1%} of the parameters, {point.megabytes:.1f} MB, {point.ms:.2f} ms"
    return f"{number:>3} {name:<5} score {point.score:.4f}, {costs}: {point.genes.shown()}"
