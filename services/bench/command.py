"""`lifelong bench learn`: compares strategies on one data set, seed by seed.

data set -> shuffled inside its stages -> each strategy learns them -> a line of JSON, a row of the table, a plot

All get the same memory. Strategies by gradient get as many sample gradients for each item as `--passes` says, or as
`lifelong` has taken with the same seed, where it comes before them.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import torch
from rich.console import Console
from rich.status import Status

from evals.continual.contender import Contender
from evals.continual.measures import Row
from evals.continual.outcome import RunOutcome, outcome
from evals.continual.runner import Method, Run, RunChoice, flipped, shuffled
from evals.continual.texts import LIFELONG
from evals.streams.benchmark import Benchmark
from learner.errors import how_to_install, require
from services.bench import plot, table
from services.bench.options import LearnOptions
from services.bench.sets import SETS, TEXTS, DataKind, set_of, without_avalanche
from services.settings import Settings
from services.versions import commit


def run(settings: Settings, options: LearnOptions) -> None:
    """Measures, prints, writes. Raises DataError for data that cannot be loaded and for an unknown strategy."""
    if options.plot:
        require("matplotlib", extra="evals")
    torch.set_num_threads(settings.learner.threads)
    console = Console()
    data_set = set_of(options.data)
    chosen = {name: data_set.kind.named(name) for name in options.strategies or _defaults(data_set.kind)}
    benchmark = data_set.load(settings.data, options.split)
    buffer = data_set.kind.buffer if options.buffer is None else options.buffer
    if buffer is None:
        buffer = settings.learner.replay_samples
    outcomes = list[RunOutcome]()
    for each in _outcomes(settings, options, chosen, benchmark, buffer):
        outcomes.append(each)
        if options.json:
            options.json.write_bytes(msgspec.json.Encoder().encode_lines(outcomes))
    console.width = max(console.width, table.WIDTH)
    console.print(table.of(outcomes))
    if options.plot:
        plot.draw(outcomes, [stage.name for stage in benchmark.stages], options.plot)
        console.print(f"Curves: {options.plot}", highlight=False)


def _defaults(kind: DataKind) -> list[str]:
    """Returns the strategies that run where none is chosen, and says which of them are left out."""
    names, missing = without_avalanche(kind.defaults)
    if missing:
        how = how_to_install("avalanche", extra="avalanche")
        Console(stderr=True).print(f"Left out: {', '.join(missing)}. {how}", highlight=False, markup=False)
    return names


def show_names() -> None:
    """Prints the names of the data sets, and of the strategies for each."""
    console = Console()
    kinds = {name: data_set.kind for name, data_set in SETS.items()} | {"a folder": TEXTS}
    for name, kind in kinds.items():
        console.print(f"{name}: {', '.join(kind.strategies)}", highlight=False)


def _outcomes(
    settings: Settings, options: LearnOptions, chosen: dict[str, Method[Any]], benchmark: Benchmark[Any], buffer: int
) -> Iterator[RunOutcome]:
    console = Console(stderr=True)
    passes_of = dict.fromkeys(range(settings.seed, settings.seed + options.seeds), options.passes or 0.0)
    for name, strategy in chosen.items():
        for seed, passes in passes_of.items():
            choice = RunChoice(
                seed=seed, buffer=buffer, passes=passes, learner=settings.learner, encoder=settings.encoder
            )
            with console.status(f"{name}, seed {seed}") as status:
                contender, result = _measured(strategy, choice, options.flip, benchmark, status)
            if name == LIFELONG and options.passes is None:
                passes_of[seed] = result.usage.gradients / result.num_items
            yield outcome(
                result,
                contender.traits,
                data=options.data,
                split=options.split,
                strategy=name,
                seed=seed,
                commit=commit(),
            )


def _measured(
    strategy: Method[Any], choice: RunChoice, flip: float, benchmark: Benchmark[Any], status: Status
) -> tuple[Contender[Any], Run]:
    title = str(status.status)

    def say(stage: str, row: Row) -> None:
        status.update(f"{title}: {stage} learnt, {sum(row) / len(row):.2f} %")

    if flip:
        benchmark = flipped(benchmark, flip, choice.seed)
    benchmark = shuffled(benchmark, choice.seed)
    contender = strategy.make(benchmark, choice)
    return contender, strategy.measure(benchmark, contender, choice, say)
