"""Measures how a learner follows classes that swap names, on CLINC150, with the whole learner but without a service.

    half of the labels, mixed --> 30 % of the classes exchange their names, in a circle --> the other half
    compared with a learner that begins at the swap, and a learner without a swap

Labels come from five sources in turn, so the learner believes a change. There are two comparisons: after 20 labels of
each class since the swap, and at the end. The accuracy of the changed classes is compared with the learner that begins
at the swap, the accuracy of the other classes with the learner without a swap.
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
    """The training texts before and after the swap, and the test texts of changed and other classes.

    Test texts have their labels after the swap.
    """

    classes: tuple[str, ...]
    before: Part[Texts]
    after: Part[Texts]
    changed: Part[Texts]
    other: Part[Texts]


def swap_names(stream: Stream, *, share: float, seed: int) -> SwappedNames:
    """Returns a stream in which a fraction `share` of the classes, drawn by `seed`, exchange their names."""
    rng = random.Random(f"{seed}/swap")
    train = stream.train_items
    test = stream.test_items
    classes = tuple(dict.fromkeys(item.label for item in train))
    rng.shuffle(train)
    circle = rng.sample(classes, len(classes))[: max(round(share * len(classes)), 2)]
    names = dict(zip(circle, circle[1:] + circle[:1], strict=True)) if share else {}
    rows = {label: row for row, label in enumerate(classes)}

    def part(items: list[tuple[str, str]]) -> Part[Texts]:
        return Part([text for text, _ in items], torch.tensor([rows[label] for _, label in items]))

    half = len(train) // 2
    return SwappedNames(
        classes,
        before=part([(item.text, item.label) for item in train[:half]]),
        after=part([(item.text, names.get(item.label, item.label)) for item in train[half:]]),
        changed=part([(item.text, names.get(item.label, item.label)) for item in test if item.label in circle]),
        other=part([(item.text, item.label) for item in test if item.label not in circle]),
    )


EARLY = 20
"""The number of labels of each class between the swap and the first comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """The fraction of classes that change, and the number of encoder blocks that are trained."""

    share: float = 0.3
    seed: int = 0
    trainable_layers: int = 0


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(Size())
    stream = clinc150(size.seed)
    torch.set_num_threads(1)
    swap = swap_names(stream, share=size.share, seed=size.seed)
    stable = swap_names(stream, share=0.0, seed=size.seed)
    config = LearnerConfig(trainable_layers=size.trainable_layers)
    yield from compare(swap, stable, lambda: WholeLearner(config, "minilm-l6", swap.classes))


def compare(swap: SwappedNames, stable: SwappedNames, make: Callable[[], WholeLearner]) -> Iterator[Row]:
    """Compares three learners that `make` makes: ours, one that begins at the swap, and one without a swap."""
    ours = make()
    new = make()
    unchanged = make()
    for learner in (ours, unchanged):
        learner.learn_many(swap.before)
    num_early = EARLY * len(swap.classes)
    for name, places in (("early", slice(num_early)), ("end", slice(num_early, None))):
        for learner, part in ((ours, swap.after), (new, swap.after), (unchanged, stable.after)):
            learner.learn_many(Part(part.inputs[places], part.labels_N[places]))
        new_accuracy = accuracy(new, swap.changed)
        our_accuracy = accuracy(ours, swap.changed)
        new_learner = Peer("a new learner", round(new_accuracy, 2))
        yield Row.of(f"concept_change.{name}.changed", round(our_accuracy, 2), "%", peers=(new_learner,))
        yield _points(f"concept_change.{name}.behind_new", new_accuracy - our_accuracy, "<= 1")
        lost = accuracy(unchanged, swap.other) - accuracy(ours, swap.other)
        yield _points(f"concept_change.{name}.others_lost", lost, "<= 0.3")
    num_false = unchanged.num_concept_changes
    yield Row.of("concept_change.false_changes", num_false, "classes", goal="<= 0")


def _points(name: str, value: float, goal: str) -> Row:
    return Row.of(name, round(value, 2), "points", goal=goal)
