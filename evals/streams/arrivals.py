"""Orders the training items of a stream as they would come to a service, without pauses between its stages.

    Stream -> one_after_another | recurring | mixed -> the same Stream with `arrivals`

one_after_another   stage after stage: old classes do not come back
recurring           new classes appear over time, and old classes keep coming
mixed               like recurring, with frequent and rare classes; one class is renamed and one is split into two
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Final

from evals.streams.stream import Arrival, Stream, StreamItem, TextStage

LAST_ARRIVAL: Final = 0.8
"""The fraction of the stream after which no new class appears."""

CHANGED_AT: Final = 0.5
"""The fraction of the stream after which one class is renamed and one is split."""

RENAMED: Final = " (renamed)"


def one_after_another(stream: Stream) -> Stream:
    """Returns the stream with its stages one after the other, without a pause."""
    arrivals: list[Arrival] = []
    for number, stage in enumerate(stream.stages):
        arrivals += [Arrival(item, number) for item in stage.train]
    return replace(stream, arrivals=tuple(arrivals))


def recurring(stream: Stream, seed: int) -> Stream:
    """Returns the stream with each item at a random time, uniform between the start of its stage and the end."""
    rng = random.Random(f"{seed}/desk")
    timed: list[tuple[float, Arrival]] = []
    for number, stage in enumerate(stream.stages):
        begins = LAST_ARRIVAL * number / len(stream.stages)
        timed += [(rng.uniform(begins, 1.0), Arrival(item, number)) for item in stage.train]
    timed.sort(key=lambda time_and_arrival: time_and_arrival[0])
    return replace(stream, arrivals=tuple(arrival for _, arrival in timed))


def mixed(stream: Stream, seed: int, num_events: int) -> Stream:
    """Returns a stream of `num_events` events in which class frequencies follow Zipf's law, and some names change.

    Ranks are drawn at random, and the class of rank r comes 1 / r times as often as the class of rank 1. When all texts
    of a class have come once, they come again. At CHANGED_AT two names of the first stage change: the second label is
    split off the first label, which it shared until then, and the third label is renamed. Test items have the names
    from the end of the stream.
    """
    rng = random.Random(f"{seed}/mixed")
    texts, stage_of = _by_label(stream)
    labels = list(texts)
    weights = [1.0 / rank for rank in rng.sample(range(1, len(labels) + 1), len(labels))]
    first, second, third = labels[:3]
    names_before = {second: first}
    names_after = {third: third + RENAMED}
    arrivals: list[Arrival] = []
    num_known = 0
    cumulated: list[float] = []
    for number in range(num_events):
        position = number / num_events
        num_stages = 1 + min(len(stream.stages) - 1, int(position / LAST_ARRIVAL * len(stream.stages)))
        if num_known != num_stages:
            num_known = num_stages
            known = [label for label in labels if stage_of[label] < num_stages]
            cumulated = list(accumulate(weights[: len(known)]))
        (label,) = rng.choices(known, cum_weights=cumulated)
        text = texts[label].pop(0)
        texts[label].append(text)
        names = names_before if position < CHANGED_AT else names_after
        arrivals.append(Arrival(StreamItem(text, names.get(label, label)), stage_of[label]))
    stages = tuple(_renamed(stage, names_after) for stage in stream.stages)
    return replace(stream, stages=stages, arrivals=tuple(arrivals))


def _by_label(stream: Stream) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Returns the training texts and the stage number of each label, with the labels in the order of the stages."""
    texts: dict[str, list[str]] = {}
    stage_of: dict[str, int] = {}
    for number, stage in enumerate(stream.stages):
        for item in stage.train:
            texts.setdefault(item.label, []).append(item.text)
            stage_of.setdefault(item.label, number)
    return texts, stage_of


def _renamed(stage: TextStage, names: Mapping[str, str]) -> TextStage:
    test = tuple(replace(item, label=names.get(item.label, item.label)) for item in stage.test)
    return replace(stage, test=test)
