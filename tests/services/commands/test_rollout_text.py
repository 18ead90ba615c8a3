"""A plan and a decision as text."""

from services.commands.rollout_text import render_decision, render_plan
from wire.records import CANDIDATE, STABLE, Arm, Decision, RolloutPlan

PLAN = RolloutPlan(
    revision=4,
    salt="s",
    arms=(Arm(name=STABLE, version=11, share=0.75), Arm(name=CANDIDATE, version=12, share=0.25)),
    reason="version 12 was published",
)


def test_a_plan_names_only_what_it_has() -> None:
    assert render_plan(PLAN) == (
        "revision 4: stable version 11 for 75%, candidate version 12 for 25% (version 12 was published)"
    )
    full = RolloutPlan(
        revision=5,
        salt="s",
        arms=PLAN.arms[:1],
        previous=9,
        reference=7,
        approved=12,
        pinned=True,
        paused=True,
        reason="me",
    )
    assert render_plan(full) == (
        "revision 5: stable version 11 for 75%, rollback goes to version 9, the reference is version 7, "
        "version 12 is approved, paused (me)"
    )


def test_a_decision_that_stands_for_several_says_so() -> None:
    decision = Decision(version=7, action="promoted", time_ms=0, rule="A", reason="as the reference does", count=12)
    assert render_decision(decision).endswith(
        "version 7     promoted by A: as the reference does (the last of 12 in this hour)"
    )
    alone = Decision(version=7, action="paused", time_ms=0, reason="me")
    assert render_decision(alone).endswith("version 7     paused: me")
