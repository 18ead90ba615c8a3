"""`lifelong bench learn`: compares strategies on one data set, seed by seed.

    data set -> shuffled inside its stages -> each strategy learns them -> a line of JSON, a row of the table, a plot

    clinc150 (all, 5 or 10 shots), support, a folder -> texts
    split-mnist, permuted-mnist -> images               elec2, weather -> streams

All strategies get the same memory. Gradient strategies get as many sample gradients per item as `--passes` says, or as
many as `lifelong` took with the same seed if it runs before them.

The table separates strategies that train the encoder from heads on the frozen encoder. With each accuracy it shows the
cost: the memory, and the sample gradients and forward passes per training item.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table
from torch import Tensor

from evals.continual import recipes, streams, texts
from evals.continual.contender import Contender
from evals.continual.measures import Row
from evals.continual.outcome import RunOutcome, mean_and_deviation, run_outcome
from evals.continual.runner import Method, Run, RunChoice, flip_labels, shuffle_stages
from evals.continual.texts import LIFELONG
from evals.streams.benchmark import Benchmark, Part, Texts
from evals.streams.data import CLINC150, SPLITS, SUPPORT, fewshot, load
from evals.streams.images import PERMUTED, SPLIT, permuted_mnist, split_mnist
from evals.streams.stream import Stage, StreamItem
from evals.streams.tabular import TABLES, series
from learner.config import is_import_path
from learner.errors import DataError, how_to_install, is_installed, require
from services.bench.options import LearnOptions
from services.settings import Settings
from services.versions import commit

WIDTH = 120
"""Smallest width of the table, also on a narrower terminal: numbers must not be cut."""

COLUMNS = (
    "final %",
    "forgetting",
    "before idle",
    "memory",
    "KiB",
    "gradients",
    "forwards",
    "names",
    "ms a label",
)

HEADINGS = {"trained": "encoder trained", "frozen": "encoder frozen", "none": "no encoder"}

IMAGES_BUFFER = 500

TRAINED = ("lifelong", "lifelong-joint", "joint", "er", "er-ace", "der++", "avalanche-replay", "naive")

FROZEN = ("ridge", "klda", "lda", "ncm", "frozen-joint", "frozen-er", "frozen-avalanche-replay")


@dataclass(frozen=True, slots=True)
class DataKind:
    """The strategies for one kind of items. `defaults` names the strategies that run if none is chosen.

    `by_path` makes one of Avalanche's strategies, or raises DataError. `buffer` is the number of samples that a
    strategy may store if none is given (None: as many as the learner's settings say).
    """

    strategies: dict[str, Method[Any]]
    defaults: tuple[str, ...]
    by_path: Callable[[str], Method[Any]]
    buffer: int | None

    def named(self, name: str) -> Method[Any]:
        """Returns the strategy with this name or import path. Raises DataError."""
        if is_import_path(name):
            return self.by_path(name)
        if name not in self.strategies:
            raise DataError(f"no strategy {name!r} here: there are {', '.join(self.strategies)}, avalanche-NAME")
        return self.strategies[name]


def run(settings: Settings, options: LearnOptions) -> None:
    """Runs the strategies, prints the table, and writes the files.

    Raises DataError for data that cannot be loaded, and for an unknown strategy.
    """
    if options.plot:
        require("matplotlib", extra="evals")
    torch.set_num_threads(settings.learner.threads)
    console = Console()
    data_set = find_data_set(options.data)
    chosen = {name: data_set.kind.named(name) for name in options.strategies or _defaults(data_set.kind)}
    benchmark = data_set.load(settings.data, options.split)
    buffer = data_set.kind.buffer if options.buffer is None else options.buffer
    if buffer is None:
        buffer = settings.learner.replay_samples
    outcomes = list[RunOutcome]()
    for outcome in _outcomes(settings, options, chosen, benchmark, buffer):
        outcomes.append(outcome)
        if options.json:
            options.json.write_bytes(msgspec.json.Encoder().encode_lines(outcomes))
    console.width = max(console.width, WIDTH)
    console.print(results_table(outcomes))
    if options.plot:
        draw(outcomes, [stage.name for stage in benchmark.stages], options.plot)
        console.print(f"Curves: {options.plot}", highlight=False)


def _defaults(kind: DataKind) -> list[str]:
    """Returns the strategies that run if none is chosen, and prints which of them are left out."""
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
            yield run_outcome(
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
        benchmark = flip_labels(benchmark, flip, choice.seed)
    benchmark = shuffle_stages(benchmark, choice.seed)
    contender = strategy.make(benchmark, choice)
    return contender, strategy.measure(benchmark, contender, choice, say)


def results_table(outcomes: Sequence[RunOutcome]) -> Table:
    """Returns the table of results, with the strategies in the order of their runs."""
    first = outcomes[0]
    seeds = len({outcome.seed for outcome in outcomes})
    title = f"{first.data}, {first.split}, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 0, 0, 1))
    shown.add_column("strategy", no_wrap=True)
    for column in COLUMNS:
        shown.add_column(column, justify="right")
    for encoder, heading in HEADINGS.items():
        group = [outcome for outcome in outcomes if outcome.encoder == encoder]
        if group:
            shown.add_section()
            shown.add_row(heading, style="italic")
        for name in dict.fromkeys(outcome.strategy for outcome in group):
            shown.add_row(name, *_cells([outcome for outcome in group if outcome.strategy == name]))
    return shown


def _cells(runs: Sequence[RunOutcome]) -> tuple[str, ...]:
    def cell(value: Callable[[RunOutcome], float], digits: int = 2) -> str:
        mean, deviation = mean_and_deviation([value(run) for run in runs])
        return f"{mean:.{digits}f} ± {deviation:.{digits}f}" if len(runs) > 1 else f"{mean:.{digits}f}"

    last = runs[-1]
    return (
        cell(lambda run: run.final_accuracy),
        cell(lambda run: run.forgetting),
        cell(lambda run: run.forgetting_before_idle),
        f"{last.buffer_samples:,}",
        f"{last.buffer_bytes / 1024:,.0f}",
        f"{last.gradients_per_item:.2f}",
        f"{last.forwards_per_item:.2f}",
        "yes" if last.uses_names else "no",
        cell(lambda run: run.ms_per_label, 3),
    )


def draw(outcomes: Sequence[RunOutcome], stages: Sequence[str], path: Path) -> None:
    """Writes the plot as a PNG. A strategy that learns everything at once is a horizontal line."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    for name in dict.fromkeys(outcome.strategy for outcome in outcomes):
        runs = [outcome for outcome in outcomes if outcome.strategy == name]
        curve = [_spread_after(runs, row) for row in range(_num_rows(runs))]
        means = [mean for mean, _ in curve]
        deviations = [deviation for _, deviation in curve]
        if len(curve) == 1:
            axes.axhline(means[0], linestyle="--", linewidth=1, label=name)
            continue
        axes.errorbar(range(1, len(curve) + 1), means, yerr=deviations, marker=".", capsize=2, label=name)
    axes.set_xticks(range(1, len(stages) + 1), stages, rotation=30, ha="right")
    axes.set_xlabel("stages learnt")
    axes.set_ylabel("mean accuracy of the stages so far, %")
    axes.set_title(outcomes[0].data)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _spread_after(runs: Sequence[RunOutcome], row: int) -> tuple[float, float]:
    """Returns the mean and the standard deviation of the accuracy after stage `row`, over the runs."""
    return mean_and_deviation([_mean(run.accuracy_matrix[row]) for run in runs])


def _num_rows(runs: Sequence[RunOutcome]) -> int:
    return min(len(run.accuracy_matrix) for run in runs)


def _mean(row: Sequence[float]) -> float:
    return sum(row) / len(row)


def without_avalanche(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits strategies into those that can run, and those that need Avalanche while it is not installed."""
    missing = [name for name in names if "avalanche-" in name and not is_installed("avalanche")]
    return [name for name in names if name not in missing], missing


@dataclass(frozen=True, slots=True)
class NamedDataSet:
    """A named data set. `load` takes the folder of data sets and the test split, and may raise DataError."""

    kind: DataKind
    load: Callable[[Path | None, str], Benchmark[Any]]


TEXTS = DataKind(texts.STRATEGIES, (*TRAINED, *FROZEN), texts.by_path, buffer=None)
FEW = DataKind(texts.STRATEGIES, ("lifelong", "joint", "ridge", "ncm", "lda"), texts.by_path, buffer=None)
SPLIT_IMAGES = DataKind(
    recipes.for_images(recipes.SPLIT_RECIPES),
    ("naive", "er", "der-ace", "joint"),
    partial(recipes.for_images_by_path, recipes.SPLIT_RECIPES),
    buffer=IMAGES_BUFFER,
)
PERMUTED_IMAGES = DataKind(
    recipes.for_images(recipes.PERMUTED_RECIPES),
    ("naive", "er", "der++", "joint"),
    partial(recipes.for_images_by_path, recipes.PERMUTED_RECIPES),
    buffer=IMAGES_BUFFER,
)
STREAMS = DataKind(streams.STRATEGIES, tuple(streams.STRATEGIES), streams.by_path, buffer=0)


def find_data_set(name: str) -> NamedDataSet:
    """Returns the built-in data set `name`. A name that is not built in is the path of a folder of texts."""
    return SETS[name] if name in SETS else NamedDataSet(TEXTS, partial(_texts, name))


def _texts(name: str, data: Path | None, split: str) -> Benchmark[Texts]:
    stream = load(name, data, split=split)
    train = stream.train_items
    classes = tuple(dict.fromkeys(item.label for item in train))
    ids = {label: index for index, label in enumerate(classes)}
    stages = (Stage(stage.name, _part(stage.train, ids), _part(stage.test, ids)) for stage in stream.stages)
    return Benchmark(name, classes, tuple(stages))


def _few(shots: int, data: Path | None, split: str) -> Benchmark[Texts]:
    """Loads all classes as one stage, with `shots` texts each (the published draw), tested on the whole split.

    All other training texts are included without their labels.
    """
    whole = load(CLINC150, data, split=split)
    train = fewshot(shots, data)
    classes = tuple(dict.fromkeys(item.label for item in train))
    ids = {label: index for index, label in enumerate(classes)}
    test = whole.test_items
    drawn = {item.text for item in train}
    all_train = whole.train_items
    others = [item.text for item in all_train if item.text not in drawn]
    stage = Stage(f"{shots} texts a class", _part(train, ids), _part(test, ids))
    return Benchmark(f"{CLINC150}-{shots}-shot", classes, (stage,), unlabelled=others)


def _of_test(make: Callable[[Path | None], Benchmark[Tensor]], data: Path | None, split: str) -> Benchmark[Tensor]:
    """Loads a benchmark that has a test split only. Raises DataError for another split."""
    if split != SPLITS[0]:
        raise DataError(f"this data set has no split {split!r}: choose {SPLITS[0]}")
    return make(data)


def _part(items: Sequence[StreamItem], ids: dict[str, int]) -> Part[Texts]:
    return Part([item.text for item in items], torch.tensor([ids[item.label] for item in items]))


SETS = {name: NamedDataSet(TEXTS, partial(_texts, name)) for name in (CLINC150, SUPPORT)} | {
    **{f"{CLINC150}-{shots}-shot": NamedDataSet(FEW, partial(_few, shots)) for shots in (5, 10)},
    SPLIT: NamedDataSet(SPLIT_IMAGES, partial(_of_test, split_mnist)),
    PERMUTED: NamedDataSet(PERMUTED_IMAGES, partial(_of_test, permuted_mnist)),
    **{name: NamedDataSet(STREAMS, partial(_of_test, partial(series, table))) for name, table in TABLES.items()},
}
