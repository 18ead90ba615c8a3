"""Reads the plan, takes one pure step, writes it, and begins again when somebody else was faster."""

from collections.abc import Callable
from typing import TypeAlias

from rollout.plans import PlanChange
from wire.errors import PlanMoved
from wire.records import RolloutPlan
from wire.store import Store

Step: TypeAlias = Callable[[RolloutPlan | None], PlanChange | None]

MAX_TRIES = 20
"""Writers are a controller and a few operators: whoever loses this often is not in a race but in a fault."""


def change(store: Store, step: Step) -> RolloutPlan | None:
    """Writes what `step` makes of the newest plan (None: there is none yet); the new plan, or None for no change.

    Raises PlanMoved when others write all the time.
    """
    for _ in range(MAX_TRIES):
        wanted = step(store.plan())
        if wanted is None:
            return None
        try:
            store.write_plan(wanted.plan, wanted.entry, wanted.current)
        except PlanMoved:
            continue
        return wanted.plan
    raise PlanMoved(f"the plan was changed by others {MAX_TRIES} times in a row")
