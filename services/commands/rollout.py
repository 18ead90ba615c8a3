"""`lifelong rollout ...`: which version answers whom, why, and what an operator may change.

Rejected: a command that writes the plan itself. Each step is one of `rollout/operator.py`, which the controller obeys,
too.
"""

import getpass
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from wire.clock import now_ms

if TYPE_CHECKING:
    from rollout.operator import Operator, RolloutStatus
    from wire.records import Decision, LearnerReport, RolloutPlan

app = typer.Typer(no_args_is_help=True, help="Which version answers which share of the traffic.")

NOTHING = "No version was published yet."
VersionArgument = Annotated[int | None, typer.Argument(metavar="VERSION", min=1, show_default=False)]


@app.command("status")
@reads_settings
def status_(context: CliContext, as_json: JsonOption = False) -> None:
    """Show the arms, what the labels say of them, which replicas have taken the plan, and what goes wrong."""
    with open_operator(context) as operator:
        status = operator.status()
    if as_json:
        print(json.dumps(_status_json(status), indent=2))
        return
    print(_plan_line(status.plan) if status.plan else NOTHING)
    print(f"current version: {status.current or 'none'}")
    print(f"evidence: {status.controller.evidence or 'none' if status.controller else 'no controller is heard of'}")
    if status.controller is not None:
        if status.controller.waits_for:
            print(f"not decided: {status.controller.waits_for}")
        _print_alarms(status.controller.alarms)
    if status.num_unreadable:
        print(f"ALARM: {status.num_unreadable} reports cannot be read")
    for report in status.replicas:
        print(f"replica {report.replica}: revision {report.revision}, versions {list(report.versions)}")
        if report.stand_in:
            print(f"ALARM: it cannot have the stable version; version {report.stand_in} stands in for it")
        if report.damaged:
            print(f"ALARM: {len(report.damaged)} of the blobs that it needs are damaged or missing")
    if status.learner is not None:
        _print_learner(status.learner)


@app.command()
@reads_settings
def history(
    context: CliContext,
    days: Annotated[float, typer.Option("--days", min=0, help="Days back from now")] = 90.0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest decisions")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the decisions, newest first: what, when, by which rule, and (with --json) all numbers behind it."""
    with open_operator(context) as operator:
        decisions = operator.history(since_ms=now_ms() - round(days * 86_400_000), entries=limit)
    if as_json:
        print(json.dumps(to_builtins(decisions), indent=2))
        return
    for decision in decisions:
        print(_decision_line(decision))
    if not decisions:
        print("No decision was made yet.")


@app.command()
@reads_settings
def promote(context: CliContext, version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Make VERSION (by default the candidate) the stable one."""
    with open_operator(context) as operator:
        _print_plan(operator.promote(version, now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def rollback(context: CliContext, as_json: JsonOption = False) -> None:
    """Return to the stable version before this one. Replicas still hold it: nothing is loaded."""
    with open_operator(context) as operator:
        _print_plan(operator.rollback(now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def approve(context: CliContext, version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Allow VERSION (by default the candidate) to become stable when the evidence is for it."""
    with open_operator(context) as operator:
        _print_plan(operator.approve(version, now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def pause(context: CliContext, as_json: JsonOption = False) -> None:
    """Stop ramps and promotions until `resume`. What is bad is withdrawn, and new versions get their small share."""
    with open_operator(context) as operator:
        _print_plan(operator.pause(now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def resume(context: CliContext, as_json: JsonOption = False) -> None:
    """Let ramps and promotions go on."""
    with open_operator(context) as operator:
        _print_plan(operator.resume(now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def pin(context: CliContext, version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Let VERSION (by default the stable one) answer everything until `unpin`."""
    with open_operator(context) as operator:
        _print_plan(operator.pin(version, now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def unpin(context: CliContext, as_json: JsonOption = False) -> None:
    """Let candidates follow and be judged again."""
    with open_operator(context) as operator:
        _print_plan(operator.unpin(now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def run(context: CliContext) -> None:
    """Run the controller that promotes and withdraws by itself. A second one stands by."""
    from learner.labels.trust import LabelTrust
    from rollout.controller import Controller
    from rollout.decider import Decider
    from rollout.judge import Judge
    from services.commands.run import stop_signal
    from services.keys import key_bytes
    from services.stack import open_store
    from wire.bus import Bus
    from wire.receipts import Receipts

    stop: threading.Event = stop_signal()
    settings = context.attached()
    holder = f"{socket.gethostname()}:{os.getpid()}"
    label_trust = LabelTrust(settings.learner, receipts=Receipts(key_bytes(settings)))
    with closing(open_store(settings)) as store, closing(Bus(settings.bus, client_id="rollout")) as bus:

        def open_judge() -> Judge:
            decider = Decider(
                store,
                config=settings.rollout,
                trust=settings.learner.trust,
                refusal=label_trust.refusal,
                now_ms=now_ms,
            )
            return Judge(bus, decider, niceness=settings.rollout.niceness)

        Controller(store, open_judge, config=settings.rollout, holder=holder, now_ms=now_ms).run(stop)


@contextmanager
def open_operator(context: CliContext) -> "Iterator[Operator]":
    """Opens the store of the running stack, and yields the operations on its rollout."""
    from rollout.operator import Operator
    from services.stack import open_store

    settings = context.attached()
    with closing(open_store(settings)) as store:
        yield Operator(store, name=_name(), config=settings.rollout)


def _print_plan(plan: "RolloutPlan", as_json: bool) -> None:
    print(json.dumps(to_builtins(plan), indent=2) if as_json else _plan_line(plan))


def _print_alarms(alarms: tuple[str, ...]) -> None:
    for alarm in alarms:
        print(f"ALARM: {alarm}")


def _print_learner(learner: "LearnerReport") -> None:
    num_provisional = learner.counts.get("classes_provisional", 0)
    num_evicted = learner.counts.get("classes_evicted", 0)
    classes = f"{learner.num_classes} classes ({num_provisional} provisional, {num_evicted} evicted)"
    print(f"learner: {learner.state}, {classes}, recent accuracy {learner.recent_accuracy:.1%}")
    print(f"learner: version {learner.version}, on the store's disk up to version {learner.durable_version}")
    if learner.refusals:
        num = learner.counts.get("gate_in_a_row", 0)
        print(f"learner: {num} versions in a row were refused, the last as {', '.join(learner.refusals)}")
    drift = f"{learner.num_drifts}, the last: {learner.drifts[-1]}" if learner.drifts else "none"
    print(f"drifts found: {drift}")
    print(f"labels not believed: {_unbelieved(learner.counts) or 'none'}")
    _print_alarms(learner.alarms)


def _status_json(status: "RolloutStatus") -> Any:
    return to_builtins(
        {
            "plan": status.plan,
            "current": status.current,
            "replicas": status.replicas,
            "learner": status.learner,
            "controller": status.controller,
        }
    )


def to_builtins(records: object) -> Any:
    import msgspec

    return msgspec.to_builtins(records)


def _plan_line(plan: "RolloutPlan") -> str:
    arms = ", ".join(f"{arm.name} version {arm.version} for {arm.share:.0%}" for arm in plan.arms)
    previous = f", rollback goes to version {plan.previous}" if plan.previous else ""
    reference = f", the reference is version {plan.reference}" if plan.reference else ""
    pinned = ", pinned" if plan.pinned else ""
    held = ", paused" if plan.paused else pinned
    return f"revision {plan.revision}: {arms}{previous}{reference}{held} ({plan.reason})"


def _decision_line(decision: "Decision") -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(decision.time_ms / 1000))
    rule = f" by {decision.rule}" if decision.rule else ""
    count = f" (the last of {decision.count} in this hour)" if decision.count > 1 else ""
    return f"{moment}  version {decision.version:<5} {decision.action}{rule}: {decision.reason}{count}"


def _unbelieved(counts: dict[str, int]) -> str:
    """Returns the number of refused and held labels by reason: `12 forged, 3 flip`."""
    parts = []
    for name, num in sorted(counts.items()):
        outcome, _, reason = name.partition("_")
        if num and outcome in ("refused", "quarantined"):
            parts.append(f"{num} {reason}")
    return ", ".join(parts)


def _name() -> str:
    """Returns the user name for the history, or the user id where it has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
