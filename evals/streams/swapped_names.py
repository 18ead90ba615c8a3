"""Makes a stream of all classes mixed, half-way through which some of them get each other's names.

Stream --shuffled--> texts before, texts after; the names of `share` of the classes go around in a circle between them
"""

import random
from dataclasses import dataclass
from itertools import chain

import torch

from evals.streams.benchmark import Part, Texts
from evals.streams.stream import Stream


@dataclass(frozen=True, slots=True)
class SwappedNames:
    """The training texts before and after the swap, and the test texts of both kinds of classes, named as after it."""

    classes: tuple[str, ...]
    before: Part[Texts]
    after: Part[Texts]
    changed: Part[Texts]
    other: Part[Texts]


def swapped(stream: Stream, *, share: float, seed: int) -> SwappedNames:
    """Returns a stream in which `share` of the classes, drawn by `seed`, have changed; 0: none has."""
    rng = random.Random(f"{seed}/swap")
    train = list(chain.from_iterable(stage.train for stage in stream.stages))
    test = list(chain.from_iterable(stage.test for stage in stream.stages))
    classes = tuple(dict.fromkeys(item.label for item in train))
    rng.shuffle(train)
    circle = rng.sample(classes, len(classes))[: max(round(share * len(classes)), 2)]
    names = dict(zip(circle, circle[1:] + circle[:1], strict=True)) if share else {}
    row_of = {label: row for row, label in enumerate(classes)}

    def part(items: list[tuple[str, str]]) -> Part[Texts]:
        return Part([text for text, _ in items], torch.tensor([row_of[label] for _, label in items]))

    half = len(train) // 2
    return SwappedNames(
        classes,
        before=part([(item.text, item.label) for item in train[:half]]),
        after=part([(item.text, names.get(item.label, item.label)) for item in train[half:]]),
        changed=part([(item.text, names.get(item.label, item.label)) for item in test if item.label in circle]),
        other=part([(item.text, item.label) for item in test if item.label not in circle]),
    )
