"""Measures how a learner follows classes that swap names, on CLINC150, through the whole learner without a service.

    half of the labels, mixed --> 30 % of the classes get each other's names, in a circle --> the other half
    beside it: a learner that begins at the swap, and one for which nothing changes

Labels come from five sources in turn, so a change is believed. After 20 labels of each class since the swap and in the
end, the changed classes are compared with the new learner's, and the others with those of the learner without a swap.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from bench.harness.case import Run
from bench.harness.texts import clinc150
from evals.continual.runner import accuracy
from evals.continual.whole_learner import WholeLearner
from evals.results.row import Peer, Row
from evals.streams.benchmark import Part, Texts
from evals.streams.stream import Stream
from learner.config import LearnerConfig


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
    train = stream.train_items
    test = stream.test_items
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


EARLY = 20
"""Labels of each class since the swap at the first comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What is measured: the share of the classes that change, and the blocks of the encoder that are trained."""

    share: float = 0.3
    seed: int = 0
    trainable_layers: int = 0


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(Size())
    stream = clinc150(size.seed)
    torch.set_num_threads(1)
    swap = swapped(stream, share=size.share, seed=size.seed)
    stable = swapped(stream, share=0.0, seed=size.seed)
    config = LearnerConfig(trainable_layers=size.trainable_layers)
    yield from compare(swap, stable, lambda: WholeLearner(config, "minilm-l6", swap.classes))


def compare(swap: SwappedNames, stable: SwappedNames, make: Callable[[], WholeLearner]) -> Iterator[Row]:
    """Compares three learners that `make` returns: ours, one that begins at the swap, and one without a swap."""
    ours = make()
    new = make()
    unchanged = make()
    for learner in (ours, unchanged):
        learner.learn_many(swap.before)
    num_early = EARLY * len(swap.classes)
    for name, places in (("early", slice(num_early)), ("end", slice(num_early, None))):
        for learner, part in ((ours, swap.after), (new, swap.after), (unchanged, stable.after)):
            learner.learn_many(Part(part.inputs[places], part.labels_N[places]))
        of_new = accuracy(new, swap.changed)
        found = accuracy(ours, swap.changed)
        new_learner = Peer("a new learner", round(of_new, 2))
        yield Row.of(f"concept_change.{name}.changed", round(found, 2), "%", peers=(new_learner,))
        yield _points(f"concept_change.{name}.behind_new", of_new - found, "<= 1")
        lost = accuracy(unchanged, swap.other) - accuracy(ours, swap.other)
        yield _points(f"concept_change.{name}.others_lost", lost, "<= 0.3")
    num_false = unchanged.num_concept_changes
    yield Row.of("concept_change.false_changes", num_false, "classes", goal="<= 0")


def _points(name: str, value: float, goal: str) -> Row:
    return Row.of(name, round(value, 2), "points", goal=goal)
