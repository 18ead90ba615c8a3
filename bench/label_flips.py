"""Measures the alarm on flipped labels, on CLINC150: its false alarms, and its delay until it notices a flipped class.

training texts --> answered by a head that is some labels behind --> (answer, label) --> FlipDetector

**False alarms.** The clean stream is played domain by domain, as in the demo, with a head that is few labels behind and
with a head that answers half of a domain before it has learnt from it; and once with all classes mixed.

**Flips.** Flips are made from the same answers. From the middle of each domain on, all labels of one of its classes are
replaced by another class that is known by then. The head does not learn the flipped labels before the alarm, because
nine flipped labels among a hundred right ones change it little.
"""

import math
import random
from collections.abc import Iterator, Sequence
from itertools import chain

import msgspec
import torch

from bench.harness.case import Run
from bench.harness.texts import clinc150
from evals.load.score import finite, nearest_rank
from evals.results.row import Row
from evals.streams.stream import StreamItem
from learner.config import LearnerConfig
from learner.intake.flips import FlipDetector, FlipsState
from learner.learner import Learner
from learner.samples import Labelled
from model.bert import load_encoder

BATCH = 50
"""The number of texts that one version answers."""

LAG = 100
LATE = 700
"""The number of labels that the answering version is behind, in the two clean streams."""

FLIPS_PER_STAGE = 10
SEED = 2
"""The seed of the order within a domain. No setting was chosen on it."""

SOURCE = "desk"

Pair = tuple[str | None, str]
"""The answer of the service, and the label."""


def measure(run: Run) -> Iterator[Row]:
    stages = [stage.train for stage in clinc150(SEED).stages]
    torch.set_num_threads(1)
    items = list(chain.from_iterable(stages))
    pairs = answer_all(items, LAG)
    yield Row.of("label_flips.false_alarms", feed(FlipDetector(), pairs).num_raised, "alarms", goal="<= 0")
    sizes = [len(stage) for stage in stages]
    delays = [delay or math.inf for delay in flip_delays(pairs, sizes)]
    num_noticed = sum(map(math.isfinite, delays))
    noticed = round(100 * num_noticed / len(delays), 1)
    yield Row.of("label_flips.noticed", noticed, "%", goal=">= 99")
    for name, percent in (("delay_p50", 50), ("delay_p99", 99)):
        delay = finite(nearest_rank(delays, percent), 0)
        yield Row.of(f"label_flips.{name}", delay, "labels, of all flips", goal="<= 500")
    late = feed(FlipDetector(), answer_all(items, LATE)).num_raised
    yield Row.of("label_flips.false_alarms_late", late, "alarms", goal="<= 0")
    random.Random(SEED).shuffle(items)
    mixed = feed(FlipDetector(), answer_all(items, LAG)).num_raised
    yield Row.of("label_flips.false_alarms_mixed", mixed, "alarms", goal="<= 0")


def answer_all(items: Sequence[StreamItem], lag: int) -> list[Pair]:
    """Answers each item by the fast head of about `lag` labels earlier; returns the answers with the labels."""
    fast_head = Learner(LearnerConfig(trainable_layers=0), *load_encoder("minilm-l6")).fast_head
    pairs: list[Pair] = []
    version: tuple[torch.Tensor, tuple[str, ...]] | None = None
    for first in range(0, len(items), BATCH):
        batch = items[first : first + BATCH]
        if version is None:
            pairs += [(None, item.label) for item in batch]
        else:
            logits_BC = fast_head.served.features(fast_head.served.z_many([item.text for item in batch])) @ version[0].T
            rows = logits_BC.argmax(dim=1).tolist()
            pairs += [(version[1][row], item.label) for row, item in zip(rows, batch, strict=True)]
        known = items[max(first - lag, 0) : max(first + BATCH - lag, 0)]
        fast_head.admit_all([item.label for item in known])
        fast_head.learn_many([Labelled(item.text, item.label) for item in known])
        if known:
            version = fast_head.ridge.solve(), fast_head.ridge.classes
    return pairs


def feed(flips: FlipDetector, pairs: Sequence[Pair]) -> FlipDetector:
    """Feeds `pairs` to the detector; returns it."""
    for answer, label in pairs:
        if answer is not None:
            flips.add(SOURCE, predicted=answer, label=label)
    return flips


def flip_delays(pairs: Sequence[Pair], sizes: Sequence[int]) -> Iterator[int]:
    """Yields for each flip the number of labels from its start to the alarm; 0 if its domain ends before the alarm."""
    rng = random.Random(SEED)
    flips = FlipDetector()
    end = 0
    for size in sizes:
        half = end + size // 2
        first = end
        end = end + size
        state = msgspec.msgpack.encode(feed(flips, pairs[first:half]).export())
        in_domain = {label for _, label in pairs[first:half]}
        known = {label for _, label in pairs[:half]}
        for _ in range(FLIPS_PER_STAGE):
            wrong = rng.choice(sorted(in_domain))
            becomes = rng.choice(sorted(known - {wrong}))
            copy = FlipDetector(msgspec.msgpack.decode(state, type=FlipsState))
            yield labels_until_alarm(copy, pairs[half:end], wrong=wrong, becomes=becomes)
        feed(flips, pairs[half:end])


def labels_until_alarm(flips: FlipDetector, pairs: Sequence[Pair], *, wrong: str, becomes: str) -> int:
    """Counts the labels up to the first flipped label that the detector holds back; 0 if it holds none back.

    The label `wrong` is flipped to `becomes`.
    """
    for number, (answer, label) in enumerate(pairs, start=1):
        is_flipped = label == wrong
        if answer and flips.add(SOURCE, predicted=answer, label=becomes if is_flipped else label) and is_flipped:
            return number
    return 0
