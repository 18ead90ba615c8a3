"""The texts that are measured on: CLINC150 where it is at hand, else the carried stream."""

import os
from pathlib import Path

from bench.row import Skip
from evals.streams.data import CLINC150, SUPPORT, load
from evals.streams.stream import Stage, Stream, StreamItem
from learner.errors import DataError
from services.versions import ROOT


def data_folder() -> Path | None:
    """$LIFELONG_DATA, else the folder `shared/data` beside the checkout where there is one."""
    if named := os.environ.get("LIFELONG_DATA"):
        return Path(named)
    beside = ROOT.parent / "shared" / "data"
    return beside if beside.is_dir() else None


def clinc150(seed: int = 0) -> Stream:
    """Shuffled within its stages by `seed`. Raises Skip, saying how to get it."""
    try:
        return load(CLINC150, data_folder(), seed=seed)
    except DataError as error:
        raise Skip(str(error)) from error


def some_texts(number: int) -> list[str]:
    """Different texts of natural length, the same at every call."""
    try:
        stream = clinc150()
    except Skip:
        stream = load(SUPPORT, None)
    texts = dict.fromkeys(item.text for stage in stream.stages for item in stage.test)
    step = max(1, len(texts) // number)
    return list(texts)[::step][:number]


def few_of_each(stream: Stream, number: int) -> Stage:
    """One stage with the first `number` training items of every label: enough that the head has all its classes."""
    train: list[StreamItem] = []
    for stage in stream.stages:
        taken: dict[str, int] = {}
        for item in stage.train:
            taken[item.label] = taken.get(item.label, 0) + 1
            if taken[item.label] <= number:
                train.append(item)
    return Stage("primer", tuple(train), tuple(train[:64]))
