"""The strategies of the slow rounds, by name.

A round begins where the last one ended. So the outputs before a round are those of the parent encoder, for fresh
samples and for replayed ones alike: no outputs are stored with the memory, and a round stays a function of its plan and
of its parent.

Rejected: elastic weight consolidation (EWC). Its sums over earlier rounds would be one more state to keep, for a method
that makes no use of the memory. Avalanche's, which `learner.slow.avalanche` runs, takes them from the memory instead.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from learner.config import SlowStrategy, is_import_path
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


def make_strategy(name: SlowStrategy, *, loss_q: float) -> Strategy:
    """Returns a new strategy for the start of a round."""
    return MAKERS[name](loss_q=loss_q)


def draws_per_step(name: str) -> int:
    """Returns how many draws from the memory a step gets: one under a strategy of Avalanche."""
    return 1 if is_import_path(name) else make_strategy(cast(SlowStrategy, name), loss_q=0.0).num_draws
