"""Tests that the outcome of a command is awaited, and that a missing outcome is explained."""

import pytest

from rollout.plans import NotPossible
from services.operator_commands import NotDoneYet, await_effect, await_outcome
from wire.records import CommandOutcome, Erase
from wire.store import Store

pytestmark = pytest.mark.live


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (None, r"no learner has seen it \(is `lifelong learn` running\?\); command 1 stays in the log"),
        ("open", "the learner has not decided"),
        ("applied", "the learner knows it, but no version is published"),
    ],
)
def test_who_waits_too_long_is_told_how_far_it_is(store: Store, state: str | None, why: str) -> None:
    command = store.commands.append(Erase(digest="a"))
    if state is not None:
        store.commands.note([CommandOutcome(seq=1, time_ms=1, state=state)])  # type: ignore[arg-type]
    with pytest.raises(NotDoneYet, match=why):
        await_outcome(store, command, timeout_s=0.01)


@pytest.mark.parametrize("state", ["published", "purged", "refused", "done"])
def test_what_is_decided_is_returned(store: Store, state: str) -> None:
    command = store.commands.append(Erase(digest="a"))
    outcome = CommandOutcome(seq=1, time_ms=1, state=state, reasons=("it cannot be read",))  # type: ignore[arg-type]
    store.commands.note([outcome])
    assert await_outcome(store, command, timeout_s=1.0) == outcome
    if state == "refused":
        with pytest.raises(NotPossible, match="has refused command 1: it cannot be read"):
            await_effect(store, command, timeout_s=1.0)
    else:
        assert await_effect(store, command, timeout_s=1.0) == outcome
