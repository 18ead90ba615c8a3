"""Waits for the outcome of a command that an operator has appended to the command log.

`lifelong forget`, `labels ...`, `model adopt`, `versions repair` --append--> log --the learner--> CommandOutcome
"""

import threading
import time
from collections.abc import Callable
from contextlib import closing

from rollout.plans import NotPossible
from wire.records import Command, CommandOutcome
from wire.store import Store

WAIT_S = 1.0


class NotDoneYet(RuntimeError):
    """The learner has not carried out the command in time. The command stays in the log."""


def await_outcome(
    store: Store,
    command: Command,
    *,
    timeout_s: float,
    say: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> CommandOutcome:
    """Waits until a command has its final outcome: published in a version, done, or refused.

    `say` is called about once a second with the progress of the learner. Raises NotDoneYet after `timeout_s` or soon
    after `stop` is set, and CommandMoved if another command has the same number now.
    """
    deadline_s = time.monotonic() + timeout_s
    with closing(store.watch()) as watch:
        while (outcome := store.commands.outcome(command)) is None or not outcome.is_final:
            learner = store.reports.learner()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or (stop is not None and stop.is_set()):
                why = _why(outcome, is_learning=learner is not None)
                raise NotDoneYet(
                    f"after {timeout_s:g} s {why}; command {command.seq} stays in the log, and "
                    "`lifelong commands list` shows its outcome"
                )
            if learner is not None and say is not None:
                say(f"the learner: {learner.round_phase or 'waits'} {learner.round_progress:.0%}")
            watch.wait(min(left_s, WAIT_S))
    return outcome


def await_effect(store: Store, command: Command, *, timeout_s: float) -> CommandOutcome:
    """Waits as `await_outcome` does, and raises NotPossible if the learner has refused the command."""
    outcome = await_outcome(store, command, timeout_s=timeout_s)
    if outcome.state == "refused":
        raise NotPossible(f"the learner has refused command {command.seq}: {', '.join(outcome.reasons)}")
    return outcome


def _why(outcome: CommandOutcome | None, *, is_learning: bool) -> str:
    """Returns the state of an unfinished command, and where to find the cause of the delay."""
    if outcome is None:
        done = "no learner has seen it"
    elif outcome.state == "open":
        done = "the learner has not decided"
    else:
        done = "the learner knows it, but no version is published"
    hint = "`lifelong rollout status` says why" if is_learning else "is `lifelong learn` running?"
    return f"{done} ({hint})"
