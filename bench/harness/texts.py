"""Provides the texts that benchmarks measure on: CLINC150 if it is installed, else the stream in the package."""

import math
import os
import random
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path

from evals.results.row import Skip
from evals.streams.data import CLINC150, SUPPORT, load
from evals.streams.stream import Stage, Stream, StreamItem, TextStage
from learner.errors import DataError


def data_folder() -> Path | None:
    """Returns $LIFELONG_DATA; None if it is not set."""
    value = os.environ.get("LIFELONG_DATA")
    return Path(value) if value else None


def clinc150(seed: int = 0) -> Stream:
    """Loads CLINC150, shuffled within its stages by `seed`. Raises Skip, which says how to get the data."""
    try:
        return load(CLINC150, data_folder(), seed=seed)
    except DataError as error:
        raise Skip(str(error)) from error


def any_stream() -> Stream:
    """Loads CLINC150, or the stream in the package if CLINC150 is not installed."""
    try:
        return clinc150()
    except Skip:
        return load(SUPPORT, None)


def some_texts(number: int) -> list[str]:
    """Returns distinct texts of natural length, the same ones at every call."""
    return spread_texts(any_stream().test_items, number)


def spread_texts(items: Sequence[StreamItem], number: int) -> list[str]:
    """Returns at most `number` distinct texts, spread evenly over the items."""
    texts = list(dict.fromkeys(item.text for item in items))
    return texts[:: max(1, len(texts) // number)][:number]


def first_items_per_class(stream: Stream, number: int) -> TextStage:
    """Makes one stage of the first `number` training items of every class, so that the head knows all classes."""
    train: list[StreamItem] = []
    for stage in stream.stages:
        counts: dict[str, int] = {}
        for item in stage.train:
            counts[item.label] = counts.get(item.label, 0) + 1
            if counts[item.label] <= number:
                train.append(item)
    return Stage("primer", tuple(train), tuple(train[:64]))


def joined_pairs(stream: Stream, num_classes: int, *, per_class: int, seed: int = 0) -> list[StreamItem]:
    """Returns items of synthetic classes: each pair of classes is a class, whose texts join a text of either.

    There are at most `per_class` distinct texts of each pair, and at most `num_classes` pairs; fewer if the stream has
    fewer pairs.
    """
    by_label: dict[str, list[str]] = {}
    for item in stream.train_items:
        by_label.setdefault(item.label, []).append(item.text)
    names = sorted(by_label)[: math.ceil(math.sqrt(num_classes))]
    rng = random.Random(seed)
    items: list[StreamItem] = []
    for one, other in islice(product(names, repeat=2), num_classes):
        texts = {f"{rng.choice(by_label[one])}, {rng.choice(by_label[other])}" for _ in range(per_class)}
        items += [StreamItem(text, f"{one} and {other}") for text in sorted(texts)]
    return items
