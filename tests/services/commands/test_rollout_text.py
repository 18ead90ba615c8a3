"""What `lifelong rollout` says to a human."""

from rollout.operator import RolloutStatus
from services.commands.rollout_text import NOTHING, decision_line, plan_line, status_lines
from wire.records import CANDIDATE, STABLE, Arm, ControllerReport, Decision, LabelRate, RolloutPlan

PLAN = RolloutPlan(
    revision=4,
    salt="s",
    arms=(Arm(name=STABLE, version=11, share=0.75), Arm(name=CANDIDATE, version=12, share=0.25)),
    reason="version 12 was published",
)


def status(plan: RolloutPlan | None, controller: ControllerReport | None) -> RolloutStatus:
    return RolloutStatus(
        plan=plan, current=0, replicas=(), history=(), learner=None, controller=controller, num_unreadable=2
    )


def test_a_plan_names_only_what_it_has() -> None:
    assert plan_line(PLAN) == (
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
    assert plan_line(full) == (
        "revision 5: stable version 11 for 75%, rollback goes to version 9, the reference is version 7, "
        "version 12 is approved, paused (me)"
    )


def test_the_status_says_what_is_missing() -> None:
    assert list(status_lines(status(None, None))) == [
        NOTHING,
        "current version: none",
        "evidence: no controller is heard of",
        "ALARM: 2 reports cannot be read",
    ]


def test_the_status_says_what_the_decision_waits_for_and_what_goes_wrong() -> None:
    report = ControllerReport(
        controller="c",
        time_ms=1,
        evidence="12 wins",
        waits_for="too close to call",
        alarms=("it burns",),
        label_rates=(LabelRate(arm="stable", answers=9, labels=3), LabelRate(arm="newest", answers=2, labels=1)),
    )
    assert list(status_lines(status(PLAN, report)))[2:6] == [
        "evidence: 12 wins",
        "not decided: too close to call",
        "labels: stable 3 of 9 answers, newest 1 of 2 answers, at the shares of now",
        "ALARM: it burns",
    ]


def test_a_decision_that_stands_for_several_says_so() -> None:
    decision = Decision(version=7, action="promoted", time_ms=0, rule="A", reason="as the reference does", count=12)
    assert decision_line(decision).endswith(
        "version 7     promoted by A: as the reference does (the last of 12 in this hour)"
    )
    alone = Decision(version=7, action="paused", time_ms=0, reason="me")
    assert decision_line(alone).endswith("version 7     paused: me")
