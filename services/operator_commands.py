"""Waits for what becomes of a command that an operator has put into the log.

`lifelong forget`, `labels ...`, `model adopt`, `versions repair` --append--> log --the learner--> CommandOutcome
"""

import time
from collections.abc import Callable
from contextlib import closing

from rollout.plans import NotPossible
from wire.records import Command, CommandOutcome
from wire.store import Store

WAIT_S = 1.0


class NotDoneYet(RuntimeError):
    """The learner has not done in time what was asked; it stays in the log."""


def await_outcome(
    store: Store, command: Command, *, timeout_s: float, say: Callable[[str], None] | None = None
) -> CommandOutcome:
    """Waits until a command is decided on: published in a version, done, or refused.

    `say` is told now and then what the learner does. Raises NotDoneYet, and CommandMoved if another has its number now.
    """
    deadline_s = time.monotonic() + timeout_s
    with closing(store.watch()) as watch:
        while (outcome := store.commands.outcome(command)) is None or not outcome.is_final:
            learner = store.reports.learner()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                why = _why(outcome, is_learning=learner is not None)
                raise NotDoneYet(
                    f"after {timeout_s:g} s {why}; command {command.seq} stays in the log, and "
                    "`lifelong commands list` says what becomes of it"
                )
            if learner is not None and say is not None:
                say(f"the learner: {learner.round_phase or 'waits'} {learner.round_progress:.0%}")
            watch.wait(min(left_s, WAIT_S))
    return outcome


def await_effect(store: Store, command: Command, *, timeout_s: float) -> CommandOutcome:
    """Waits as `await_outcome` does. Raises NotPossible where the learner refuses."""
    outcome = await_outcome(store, command, timeout_s=timeout_s)
    if outcome.state == "refused":
        raise NotPossible(f"the learner has refused command {command.seq}: {', '.join(outcome.reasons)}")
    return outcome


def _why(outcome: CommandOutcome | None, *, is_learning: bool) -> str:
    """Returns how far a command is, and where to look."""
    if outcome is None:
        done = "no learner has seen it"
    elif outcome.state == "open":
        done = "the learner has not decided"
    else:
        done = "the learner knows it, but no version is published"
    hint = "`lifelong rollout status` says why" if is_learning else "is `lifelong learn` running?"
    return f"{done} ({hint})"
