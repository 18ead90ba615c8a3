"""The strategies of the slow rounds: ours by name, and those of users by their import path.

    er, der++, ... --MAKERS--> Strategy      my.module:Mine(alpha=0.5) --import--> a class of the user, as one of ours

A round begins where the last one ended. So the outputs before a round are those of the parent encoder, for fresh
samples and for replayed ones alike: no outputs are stored with the memory, and a round stays a function of its plan and
of its parent.

Rejected: elastic weight consolidation (EWC). Its sums over earlier rounds would be one more state to keep, for a method
that makes no use of the memory. Avalanche's, which `learner.slow.avalanche` runs, takes them from the memory instead.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import cast

from torch import Tensor

from learner.config import SlowStrategy, is_import_path
from learner.errors import DataError
from learner.plugins import PREFIX, import_any
from learner.slow.strategies.agem import AveragedGradient
from learner.slow.strategies.derpp import DarkReplay
from learner.slow.strategies.er import ExperienceReplay
from learner.slow.strategies.er_ace import AsymmetricReplay
from learner.slow.strategies.lwf import Distillation
from learner.slow.strategies.strategy import Outputs, Strategy

MAKERS: Mapping[SlowStrategy, Callable[..., Strategy]] = {
    "naive": Strategy,
    "er": ExperienceReplay,
    "er-ace": AsymmetricReplay,
    "der++": partial(DarkReplay, alpha=0.05, beta=1.0),
    "der-ace": partial(DarkReplay, alpha=0.05, beta=1.0, is_asymmetric=True),
    "a-gem": AveragedGradient,
    "lwf": partial(Distillation, alpha=1.0),
}


def make_strategy(name: str, *, loss_q: float) -> Strategy:
    """Returns a new strategy for the start of a round. Raises DataError for a class that cannot be made."""
    own = own_strategy(name)
    return MAKERS[cast(SlowStrategy, name)](loss_q=loss_q) if own is None else GuardedStrategy(name, own, loss_q)


def own_strategy(name: str) -> Callable[..., Strategy] | None:
    """Returns the class of the user that an import path names, with the arguments in its brackets.

    None for a name of ours, and for a class of Avalanche. Raises DataError where nothing can be imported.
    """
    if not is_import_path(name) or name.startswith(PREFIX):
        return None
    cls, arguments = import_any(name)
    return partial(cls, **arguments) if isinstance(cls, type) and issubclass(cls, Strategy) else None


def draws_per_step(name: str) -> int:
    """Returns how many draws from the memory a step gets: one under a strategy of Avalanche."""
    if is_import_path(name) and own_strategy(name) is None:
        return 1
    return make_strategy(name, loss_q=0.0).num_draws


class GuardedStrategy(Strategy):
    """A strategy of the user, whose mistakes end the round and not the learner: they become DataErrors."""

    def __init__(self, name: str, make: Callable[..., Strategy], loss_q: float) -> None:
        super().__init__(loss_q=loss_q)
        self._name = name
        try:
            self._own = make(loss_q=loss_q)
        except (TypeError, ValueError) as error:
            raise DataError(f"{name} cannot be made: {error}") from error
        self.num_draws = self._own.num_draws
        self.wants_before = self._own.wants_before

    def backward(self, parameters: Sequence[Tensor], fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        try:
            return self._own.backward(parameters, fresh, draws)
        except (RuntimeError, TypeError, ValueError) as error:
            raise DataError(f"{self._name} cannot learn a slow round: {error!r}") from error
