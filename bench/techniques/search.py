"""Measures row E15: a search for shared parameters, against a search at random and among uniform patterns.

    search     NSGA-II over tie maps, groups of keys and values, width of the embedding, rank, heads, bits, zero blocks
    random     encoders drawn at random from the same space
    uniform    encoders drawn at random whose layers are all alike, in groups of equal size

All three have the same limit of stored parameters, the same supernet, scores and number of evaluated encoders. The
encoders with the highest scores are retrained the same way. Of these, the one with the highest accuracy on the held
training texts is measured on the test texts, in INT8 or INT4 as its genes say, with closed-form heads.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Final

from bench.harness.case import Bar, Run, Technique
from bench.harness.texts import data_folder
from bench.techniques.tasks import load_tasks, served_encoder, task_accuracy
from evals.results.row import NoResult, Peer, Row
from evals.streams.data import CLINC150, SUPPORT, fewshot
from evals.streams.text_sets import TextSet
from learner.encoder.served import ServedEncoder
from lifelong.compress.search import Point
from model.bert import load_encoder
from services.members.search import Search, SearchOptions, Trained

SOURCE: Final = "minilm-l6"

TASKS: Final = (CLINC150, "snips", "trec6", "sst2")

STORED: Final = 0.35
"""The largest share of the source's parameters."""

NUM_TRAINED: Final = 3
"""Encoders of each search that are retrained."""

SHOTS: Final = 5


def measure(run: Run) -> Iterator[Row]:
    """Yields the size, the proxies, and the accuracies of the three searches. A quick run trains one encoder briefly.

    Raises Skip without data, and NoResult if a search finds nothing.
    """
    sets = load_tasks(run, TASKS, train=3_000, test=2_000)
    options = SearchOptions(
        source=SOURCE,
        tasks=(SUPPORT,) if run.is_quick else TASKS,
        stored=STORED,
        budget=run.amount(3, 200),
        steps=run.amount(2, 240),
        max_texts=run.amount(90, 600),
        checked=run.amount(2, 15),
        check_steps=run.amount(1, 60),
        retrain_steps=run.amount(4, 300),
        threads=os.cpu_count() or 1,
        seed=run.seed,
    )
    with TemporaryDirectory() as folder:
        search = Search(options, data=data_folder(), state_dir=Path(folder), say=run.say)
        found = search.run()
        taus = ", ".join(f"{name} {tau:.2f}" for name, tau in found.taus.items())
        yield run.row("tau", round(max(found.taus.values()), 2), note=f"{taus}; scored by {found.proxy}")
        best = search.train(_highest(search.evaluated, 1)[0].genes)
        inherited = search.scored(best.genes, 0)
        yield run.row("distilled", round(best.cosine - inherited.cosine, 4))
        if run.is_quick:
            yield run.row("stored", _stored(best, found.parameters), note=best.genes.shown())
            return
        searches = {"search": search.evaluated} | search.baselines()
        chosen = {name: _chosen(search, points) for name, points in searches.items()}
        yield run.row("stored", _stored(chosen["search"], found.parameters), note=chosen["search"].genes.shown())
        yield from _compared(run, sets, chosen)


def _compared(run: Run, sets: Sequence[TextSet], chosen: dict[str, Trained]) -> Iterator[Row]:
    """Yields the accuracies on the test texts of the chosen encoder of each search, and of the source."""
    folders = {"source": SOURCE} | {name: trained.folder for name, trained in chosen.items()}
    accuracies: dict[str, list[float]] = {}
    few: dict[str, float] = {}
    for name, folder in folders.items():
        served = served_encoder(*load_encoder(folder, max_tokens=64))
        accuracies[name] = [task_accuracy(served, task) for task in sets]
        few[name] = _few_shot(served, sets[0])
        run.say(f"{name}: {mean(accuracies[name]):.2f} %, {SHOTS} shots {few[name]:.2f} %")
    means = {name: mean(values) for name, values in accuracies.items()}
    by_task = ", ".join(
        f"{task.name} {ours:.1f} of {theirs:.1f}"
        for task, ours, theirs in zip(sets, accuracies["search"], accuracies["source"], strict=True)
    )
    peers = [Peer(name, round(means[name], 2)) for name in ("source", "random", "uniform")]
    yield run.row("accuracy", round(means["search"], 2), peers=peers, note=by_task)
    for name in ("uniform", "random"):
        note = f"{name}: {chosen[name].genes.shown()}"
        yield run.row(f"over_{name}", round(means["search"] - means[name], 2), note=note)
    shown = [Peer(name, round(few[name], 2)) for name in ("source", "random", "uniform")]
    yield run.row("few_shots", round(few["search"] - few["source"], 2), peers=shown)


def _few_shot(served: ServedEncoder, clinc150: TextSet) -> float:
    return task_accuracy(served, replace(clinc150, train=fewshot(SHOTS, data_folder())))


def _highest(points: Sequence[Point], number: int) -> list[Point]:
    """Returns the points with the highest scores. Raises NoResult if there are none."""
    if not points:
        raise NoResult("the search found no encoder")
    return sorted(points, key=lambda point: -point.score)[:number]


def _chosen(search: Search, points: Sequence[Point]) -> Trained:
    """Retrains the points with the highest scores; returns the one with the highest accuracy on the held texts."""
    trained = [search.train(point.genes) for point in _highest(points, NUM_TRAINED)]
    return max(trained, key=lambda each: each.accuracy)


def _stored(trained: Trained, num_parameters: int) -> float:
    return round(100 * trained.parameters / num_parameters, 1)


TECHNIQUE = Technique(
    title="architecture search",
    claim="The article promises 65 % fewer parameters and 3.2 points more by a search for shared parameters.",
    how=(
        "CLINC150, SNIPS, TREC-6 and SST-2. A supernet of MiniLM is trained for 240 steps of four encoders on the "
        "training texts without labels. Each search evaluates 200 encoders on training texts that are held out, "
        "retrains three for 300 steps, and chooses one by these texts. The test texts measure what was chosen, with "
        "closed-form heads of at most 3,000 labels of each task. `uniform` has the same space, but all layers alike."
    ),
    bars=(
        Bar(
            "stored",
            "% of MiniLM's parameters",
            "<= 35",
            quick="<= 35",
            baseline="MiniLM, counted",
        ),
        Bar(
            "over_uniform",
            "points of test accuracy, mean of four tasks, over uniform sharing",
            ">= 0",
            baseline="the best uniform sharing of as many parameters and evaluations",
        ),
        Bar(
            "over_random",
            "points of test accuracy, mean of four tasks, over a search at random",
            ">= 0",
            baseline="the best encoder of as many parameters and evaluations that were drawn at random",
        ),
        Bar("accuracy", "% of the test texts, mean of four tasks", baseline="MiniLM, and the other searches"),
        Bar(
            "few_shots",
            "points of accuracy on CLINC150 with 5 labels a class, over MiniLM",
            baseline="MiniLM without sharing",
        ),
        Bar(
            "tau",
            "Kendall's tau of the best proxy with the accuracy after retraining, 15 encoders",
            baseline="the order after retraining; below 0.6 no proxy is used",
        ),
        Bar(
            "distilled",
            "more cosine of a retrained encoder's vectors with MiniLM's",
            quick=">= 0.01",
            baseline="the encoder with the supernet's weights",
        ),
    ),
)
