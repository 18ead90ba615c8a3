"""Provides the texts that are measured on: CLINC150 where it is at hand, else the carried stream."""

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
    """Returns $LIFELONG_DATA, where it is set."""
    named = os.environ.get("LIFELONG_DATA")
    return Path(named) if named else None


def clinc150(seed: int = 0) -> Stream:
    """Loads CLINC150, shuffled within its stages by `seed`. Raises Skip, which says how to get it."""
    try:
        return load(CLINC150, data_folder(), seed=seed)
    except DataError as error:
        raise Skip(str(error)) from error


def any_stream() -> Stream:
    """Loads CLINC150, or the carried stream where it is not at hand."""
    try:
        return clinc150()
    except Skip:
        return load(SUPPORT, None)


def some_texts(number: int) -> list[str]:
    """Returns distinct texts of natural length, the same at every call."""
    return spread_texts(any_stream().test_items, number)


def spread_texts(items: Sequence[StreamItem], number: int) -> list[str]:
    """Returns the texts of some items, all different, from the first to the last of them."""
    texts = list(dict.fromkeys(item.text for item in items))
    return texts[:: max(1, len(texts) // number)][:number]


def few_of_each(stream: Stream, number: int) -> TextStage:
    """Makes one stage of the first `number` training items of every label, so that the head has all its classes."""
    train: list[StreamItem] = []
    for stage in stream.stages:
        counts: dict[str, int] = {}
        for item in stage.train:
            counts[item.label] = counts.get(item.label, 0) + 1
            if counts[item.label] <= number:
                train.append(item)
    return Stage("primer", tuple(train), tuple(train[:64]))


def joined_pairs(stream: Stream, num_classes: int, *, per_class: int, seed: int = 0) -> list[StreamItem]:
    """Returns texts of pairs of classes, each a class of its own: a text of the one joined with one of the other.

    There are at most `per_class` texts of each pair, all different, and as many pairs as the stream has at most.
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
