"""Changes the plan by compare and swap: reads it, computes a pure step, writes it, and retries where another was
faster."""

from collections.abc import Callable
from typing import TypeAlias

from rollout.plans import PlanChange
from wire.errors import PlanMoved
from wire.records import RolloutPlan
from wire.store import Plans

PlanStep: TypeAlias = Callable[[RolloutPlan | None], PlanChange | None]

MAX_TRIES = 20
"""The writers are a controller and a few operators: one that loses this often is not in a race but faulty."""


def change(plans: Plans, step: PlanStep) -> RolloutPlan | None:
    """Writes the result of `step` for the plan in force (None: there is none yet); returns the new plan, or None for no
    change.

    Raises PlanMoved where others write all the time.
    """
    for _ in range(MAX_TRIES):
        proposed = step(plans.read())
        if proposed is None:
            return None
        try:
            plans.write(proposed.plan, proposed.decision, proposed.current)
        except PlanMoved:
            continue
        return proposed.plan
    raise PlanMoved(f"the plan was changed by others {MAX_TRIES} times in a row")
