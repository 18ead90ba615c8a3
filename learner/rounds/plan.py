"""The plan of a slow round: all batches that it trains on, and how many blocks, drawn and decided when it begins.

    new labels, replay memory --draw_plan, rng of (seed, number)--> RoundPlan: one StepPlan for each gradient step

A checkpoint holds the plan, so a restart repeats the round, and it trains as deep whatever has drifted meanwhile.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec
import numpy as np

from learner.memory import Replay, draw
from learner.samples import Labelled
from wire.inputs import is_encoded
from wire.kinds import row_names


class StepPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one gradient step trains on: new samples, and each draw from the memory that the strategy asked for.

    In a round on texts without a label, these are the new samples, and their labels are "".
    """

    fresh: list[Labelled]
    draws: list[list[Labelled]]

    @property
    def samples(self) -> list[Labelled]:
        samples = list(self.fresh)
        for replayed in self.draws:
            samples += replayed
        return samples


class RoundPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a slow round trains on. The round is a pure function of its plan and of the encoder it begins from.

    `layers` is the number of top blocks that it trains (0: all that any round may train, as every round did before
    there were tiers).
    """

    number: int
    steps: list[StepPlan]
    layers: int = 0

    @property
    def labels(self) -> list[str]:
        """The classes that the round trains on, one row each in the auxiliary head."""
        labels = set[str]()
        for step in self.steps:
            labels.update(*(row_names(sample.label) for sample in step.samples))
        return sorted(labels - {""})

    @property
    def unlabelled(self) -> list[str]:
        """The texts that the round needs pseudo-labels for, each once, in the order of the steps."""
        texts = dict[str, None]()
        for step in self.steps:
            texts |= dict.fromkeys(sample.text for sample in step.fresh if not sample.label)
        return list(texts)


def with_text(samples: Iterable[Labelled]) -> list[Labelled]:
    """Returns the samples of events that the encoder reads: only these train it."""
    return [sample for sample in samples if is_encoded(sample.text)]


def step_sizes(size: int, num_draws: int, *, share_fresh: float = 0.5) -> tuple[int, ...]:
    """Returns the number of fresh samples in a step of `size`, then that of each draw. Without draws all are fresh.

    >>> step_sizes(32, 1), step_sizes(32, 2, share_fresh=0.75), step_sizes(32, 0)
    ((16, 16), (24, 4, 4), (32,))
    """
    if not num_draws:
        return (size,)
    num_fresh = int(size * share_fresh)
    return (num_fresh, *[(size - num_fresh) // num_draws] * num_draws)


def draw_plan(
    number: int,
    fresh: Sequence[Labelled],
    replay: Replay[Labelled],
    *,
    steps: int,
    sizes: Sequence[int],
    seed: int,
) -> RoundPlan:
    """Returns the steps of round `number`: `sizes[0]` samples each from `fresh`, the other sizes drawn from `replay`.

    All are samples with a text. Those of `fresh` are shuffled and used as often as needed; without `fresh` all are from
    `replay`.

    The plan is a function of the set of samples, of `number` and of `seed`: the order in which the samples came changes
    nothing.
    """
    rng = np.random.default_rng([seed, number])
    groups = [texts for group in replay.groups() if (texts := with_text(group))]
    pool = sorted(fresh) or list(chain.from_iterable(groups))
    num_fresh, *draws = sizes
    order: list[int] = []
    while len(order) < num_fresh * steps:
        order += rng.permutation(len(pool)).tolist()
    plans = list[StepPlan]()
    for step in range(steps):
        places = order[step * num_fresh : (step + 1) * num_fresh]
        replayed = [draw(groups, num_samples, rng) for num_samples in draws]
        plans.append(StepPlan(fresh=[pool[place] for place in places], draws=replayed))
    return RoundPlan(number=number, steps=plans)
