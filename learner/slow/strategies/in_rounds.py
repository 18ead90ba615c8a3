"""The strategies of the slow rounds by name.

A round begins where the last one ended, so the outputs before it are those of its parent, of fresh samples and of
replayed ones alike: nothing has to be stored with the memory, whatever encoder a sample was stored under, and a round
stays a function of its plan and of its parent. Elastic weight consolidation is not among them: its sums over earlier
rounds would be one more state to keep, for a method that does without the memory that we have.
"""

from collections.abc import Callable, Mapping
from functools import partial

from learner.config import SlowStrategy
from learner.slow.strategies.agem import AveragedGradient
from learner.slow.strategies.derpp import DarkReplay
from learner.slow.strategies.er import ExperienceReplay
from learner.slow.strategies.er_ace import AsymmetricReplay
from learner.slow.strategies.lwf import Distillation
from learner.slow.strategies.strategy import Strategy

MAKERS: Mapping[SlowStrategy, Callable[..., Strategy]] = {
    "naive": Strategy,
    "er": ExperienceReplay,
    "er-ace": AsymmetricReplay,
    "der++": partial(DarkReplay, alpha=0.05, beta=1.0),
    "der-ace": partial(DarkReplay, alpha=0.05, beta=1.0, is_asymmetric=True),
    "a-gem": AveragedGradient,
    "lwf": partial(Distillation, alpha=1.0),
}


def in_rounds(name: SlowStrategy, *, loss_q: float) -> Strategy:
    """A strategy as it is at the start of a round."""
    return MAKERS[name](loss_q=loss_q)
