"""The plan of a slow round: its batches and the number of trained blocks, fixed when the round begins.

    new labels, replay buffer --draw_plan, rng of (seed, number)--> RoundPlan: one StepPlan for each gradient step

A checkpoint contains the plan. So after a restart the same round is repeated. It trains as many blocks as before, even
if drift was detected meanwhile.
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
    """The samples of one gradient step: new samples (`fresh`), and the strategy's draws from the replay buffer.

    In a round on pseudo-labels, the new samples are texts without a label: their label is "".
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
    """The batches of a slow round. The round is a pure function of its plan, its class means and its encoder.

    `layers` is the number of top blocks that the round trains. 0 means `LearnerConfig.deepest_layers`, since older
    releases did not write this field.
    """

    number: int
    steps: list[StepPlan]
    layers: int = 0

    @property
    def labels(self) -> list[str]:
        """The classes of the samples, sorted. Each has a row in the auxiliary head, in this order."""
        labels = set[str]()
        for step in self.steps:
            labels.update(*(row_names(sample.label) for sample in step.samples))
        return sorted(labels - {""})

    @property
    def unlabelled(self) -> list[str]:
        """The texts that need a pseudo-label, each once, in the order of the steps."""
        texts = dict[str, None]()
        for step in self.steps:
            texts |= dict.fromkeys(sample.text for sample in step.fresh if not sample.label)
        return list(texts)


def with_text(samples: Iterable[Labelled]) -> list[Labelled]:
    """Returns the samples that have a text. Only these can train the encoder."""
    return [sample for sample in samples if is_encoded(sample.text)]


def step_sizes(size: int, num_draws: int, *, share_fresh: float = 0.5) -> tuple[int, ...]:
    """Divides a step of `size` samples: returns the number of fresh samples, then the number of samples of each draw.

    Without draws all samples are fresh.

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
    """Draws the plan of round `number`, with `steps` gradient steps.

    A step has `sizes[0]` samples from `fresh`, or from `replay` if `fresh` is empty. It has one draw from `replay` for
    each further size. The fresh samples are shuffled, and repeated if there are too few. All samples have a text.

    The plan depends on the set of samples, `number` and `seed`, but not on the order of the samples.
    """
    rng = np.random.default_rng([seed, number])
    groups = [texts for group in replay.groups() if (texts := with_text(group))]
    # Sorted, so that the order of arrival does not matter.
    pool = sorted(fresh) or list(chain.from_iterable(groups))
    num_fresh, *draws = sizes
    order: list[int] = []
    # Each sample is used once before any sample is used again.
    while len(order) < num_fresh * steps:
        order += rng.permutation(len(pool)).tolist()
    plans = list[StepPlan]()
    for step in range(steps):
        chosen = order[step * num_fresh : (step + 1) * num_fresh]
        replayed = [draw(groups, num_samples, rng) for num_samples in draws]
        plans.append(StepPlan(fresh=[pool[index] for index in chosen], draws=replayed))
    return RoundPlan(number=number, steps=plans)
