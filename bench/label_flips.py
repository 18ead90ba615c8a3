"""The alarm on flipped labels, on CLINC150: how often it is false, and how soon it notices the flip of one class.

training texts --> answered by a head that is some labels behind --> (answered, said) --> FlipDetector

The clean stream comes as the demo plays it, domain by domain, with a service that is close behind and with one that
answers half of a domain by the weights before it; and with all classes mixed. Flips are made of the same answers: from
the middle of each domain on, all labels of one of its classes are said to be another class, known by then. What would
be learnt of them before the alarm is not; nine labels beside a hundred right ones change little.
"""

import random
from collections.abc import Iterator, Sequence
from statistics import median

import msgspec
import torch

from bench.row import Goal, Row
from bench.supply import Supply
from bench.texts import clinc150
from evals.streams.stream import StreamItem
from learner.config import LearnerConfig
from learner.labels.flip_detector import FlipDetector, FlipsState
from learner.learner import Learner
from learner.memory.replay import Labelled
from model.minilm import load_encoder

BATCH = 50
"""Texts that are answered by one version."""

LAG = 100
LATE = 700
"""Labels that it does not know yet."""

FLIPS_PER_STAGE = 10
SEED = 2
"""Of the order within a domain: no setting was chosen on it."""

SOURCE = "desk"

Pair = tuple[str | None, str]
"""What was answered, and what was said."""


def measure(supply: Supply) -> Iterator[Row]:
    stages = [stage.train for stage in clinc150(SEED).stages]
    supply.stop_service()
    torch.set_num_threads(1)
    items = [item for stage in stages for item in stage]
    pairs = answered(items, LAG)
    yield Row(
        name="label_flips.false_alarms",
        value=watched(FlipDetector(), pairs).num_raised,
        unit="alarms",
        goal=Goal("<=", 0),
    )
    delays = list(flipped(pairs, [len(stage) for stage in stages]))
    noticed = sorted(delay for delay in delays if delay)
    yield Row(name="label_flips.noticed", value=round(100 * len(noticed) / len(delays), 1), unit="%")
    yield Row(name="label_flips.delay_p50", value=median(noticed), unit="labels", goal=Goal("<=", 500))
    yield Row(name="label_flips.delay_max", value=noticed[-1], unit="labels", goal=Goal("<=", 500))
    late = watched(FlipDetector(), answered(items, LATE)).num_raised
    yield Row(name="label_flips.false_alarms_late", value=late, unit="alarms", goal=Goal("<=", 0))
    random.Random(SEED).shuffle(items)
    mixed = watched(FlipDetector(), answered(items, LAG)).num_raised
    yield Row(name="label_flips.false_alarms_mixed", value=mixed, unit="alarms", goal=Goal("<=", 0))


def answered(items: Sequence[StreamItem], lag: int) -> list[Pair]:
    """Each item answered by the fast tier as it was some `lag` labels before, then learnt."""
    tier = Learner(LearnerConfig(trainable_layers=0), *load_encoder("minilm-l6")).tier
    pairs: list[Pair] = []
    version: tuple[torch.Tensor, tuple[str, ...]] | None = None
    for first in range(0, len(items), BATCH):
        batch = items[first : first + BATCH]
        if version is None:
            pairs += [(None, item.label) for item in batch]
        else:
            logits_BC = tier.served.features(tier.served.z_many([item.text for item in batch])) @ version[0].T
            rows = logits_BC.argmax(dim=1).tolist()
            pairs += [(version[1][row], item.label) for row, item in zip(rows, batch, strict=True)]
        known = items[max(first - lag, 0) : max(first + BATCH - lag, 0)]
        tier.admit_all([item.label for item in known])
        tier.learn_many([Labelled(item.text, item.label) for item in known])
        if known:
            version = tier.head.solve(), tier.head.classes
    return pairs


def watched(flips: FlipDetector, pairs: Sequence[Pair]) -> FlipDetector:
    """`flips`, which has seen `pairs`."""
    for answer, said in pairs:
        if answer is not None:
            flips.is_part(SOURCE, answered=answer, said=said)
    return flips


def flipped(pairs: Sequence[Pair], sizes: Sequence[int]) -> Iterator[int]:
    """For each flip the labels from its beginning to the first that is held; 0 where its domain ends before."""
    rng = random.Random(SEED)
    flips = FlipDetector()
    end = 0
    for size in sizes:
        half = end + size // 2
        first = end
        end = end + size
        state = msgspec.msgpack.encode(watched(flips, pairs[first:half]).export())
        here, known = ({said for _, said in part} for part in (pairs[first:half], pairs[:half]))
        for _ in range(FLIPS_PER_STAGE):
            wrong = rng.choice(sorted(here))
            becomes = rng.choice(sorted(known - {wrong}))
            copy = FlipDetector(msgspec.msgpack.decode(state, type=FlipsState))
            yield delay(copy, pairs[half:end], wrong=wrong, becomes=becomes)
        watched(flips, pairs[half:end])


def delay(flips: FlipDetector, pairs: Sequence[Pair], *, wrong: str, becomes: str) -> int:
    for number, (answer, said) in enumerate(pairs, start=1):
        is_lie = said == wrong
        if answer and flips.is_part(SOURCE, answered=answer, said=becomes if is_lie else said) and is_lie:
            return number
    return 0
