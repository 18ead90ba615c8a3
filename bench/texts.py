"""Provides the texts that are measured on: CLINC150 where it is at hand, else the carried stream."""

import os
from itertools import chain
from pathlib import Path

from bench.row import Skip
from evals.streams.data import CLINC150, SUPPORT, load
from evals.streams.stage import Stage
from evals.streams.stream import Stream, StreamItem, TextStage
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


def some_texts(number: int) -> list[str]:
    """Returns distinct texts of natural length, the same at every call."""
    try:
        stream = clinc150()
    except Skip:
        stream = load(SUPPORT, None)
    items = chain.from_iterable(stage.test for stage in stream.stages)
    texts = dict.fromkeys(item.text for item in items)
    step = max(1, len(texts) // number)
    return list(texts)[::step][:number]


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
