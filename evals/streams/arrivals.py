"""Orders the training items of a stream without pauses between its stages, as they would come to a service.

    Stream -> one_after_another | at_a_desk | mixed -> the same Stream with `arrivals`

one_after_another   stage after stage: old classes do not come back
at_a_desk           classes arrive over time, and keep coming
mixed               as at a desk, with frequent and rare classes; on the way one is renamed, and one is split into two
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Final

from evals.streams.stream import Arrival, Stream, StreamItem, TextStage

LAST_ARRIVAL: Final = 0.8
"""The part of the stream after which no class is new any more."""

CHANGED_AT: Final = 0.5
"""The part of the stream after which one class has another name, and one is two."""

RENAMED: Final = " (renamed)"


def one_after_another(stream: Stream) -> Stream:
    """Returns the stream with its stages played one after the other, without a pause."""
    arrivals: list[Arrival] = []
    for number, stage in enumerate(stream.stages):
        arrivals += [Arrival(item, number) for item in stage.train]
    return replace(stream, arrivals=tuple(arrivals))


def at_a_desk(stream: Stream, seed: int) -> Stream:
    """Returns the stream with each item once, at a time that is uniform from the arrival of its stage to the end."""
    rng = random.Random(f"{seed}/desk")
    timed: list[tuple[float, Arrival]] = []
    for number, stage in enumerate(stream.stages):
        begins = LAST_ARRIVAL * number / len(stream.stages)
        timed += [(rng.uniform(begins, 1.0), Arrival(item, number)) for item in stage.train]
    timed.sort(key=lambda each: each[0])
    return replace(stream, arrivals=tuple(arrival for _, arrival in timed))


def mixed(stream: Stream, seed: int, num_events: int) -> Stream:
    """Returns a stream of `num_events` in which the classes come by Zipf's law, and the first stage changes its names.

    A class of rank r comes 1 / r times as often as that of rank 1; the ranks are drawn. Its texts come again when all
    have come once. Until CHANGED_AT of the stream, the second label of the first stage is called like the first one,
    from which it is split then; the third one is renamed. Test items have the names of the end.
    """
    rng = random.Random(f"{seed}/mixed")
    texts, stage_of = _by_label(stream)
    labels = list(texts)
    weights = [1.0 / rank for rank in rng.sample(range(1, len(labels) + 1), len(labels))]
    first, second, third = labels[:3]
    before = {second: first}
    after = {third: third + RENAMED}
    arrivals: list[Arrival] = []
    num_known = 0
    cumulated: list[float] = []
    for number in range(num_events):
        part = number / num_events
        num_stages = 1 + min(len(stream.stages) - 1, int(part / LAST_ARRIVAL * len(stream.stages)))
        if num_known != num_stages:
            num_known = num_stages
            known = [label for label in labels if stage_of[label] < num_stages]
            cumulated = list(accumulate(weights[: len(known)]))
        (label,) = rng.choices(known, cum_weights=cumulated)
        text = texts[label].pop(0)
        texts[label].append(text)
        name = (before if part < CHANGED_AT else after).get(label, label)
        arrivals.append(Arrival(StreamItem(text, name), stage_of[label]))
    stages = tuple(_renamed(stage, after) for stage in stream.stages)
    return replace(stream, stages=stages, arrivals=tuple(arrivals))


def _by_label(stream: Stream) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Returns the training texts of each label, and the number of its stage; the labels by stage."""
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
