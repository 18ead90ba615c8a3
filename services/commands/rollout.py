"""`lifelong versions` and `lifelong rollout ...`: which weights there are, and which answer whom."""

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
    from rollout.operator import Operator
    from wire.records import RolloutPlan

app = typer.Typer(no_args_is_help=True, help="Which version answers which share of the traffic.")

NOTHING = "No version was published yet."
VersionArgument = Annotated[int | None, typer.Argument(metavar="VERSION", min=1, show_default=False)]


@reads_settings
def versions(
    given: CliContext,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest entries")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List what happened to the versions of the weights, newest first."""
    with operator(given) as does:
        status = does.status(entries=limit)
    if as_json:
        print(json.dumps({"newest": status.newest, "entries": _built(status.history)}, indent=2))
        return
    for entry in status.history:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time_ms / 1000))
        print(f"{moment}  version {entry.version:<5} {entry.action:<12} {entry.detail}".rstrip())
    if not status.history:
        print(NOTHING)


@app.command("status")
@reads_settings
def status_(given: CliContext, as_json: JsonOption = False) -> None:
    """Show the arms, what the labels say of them, which replicas have taken the plan, and what goes wrong."""
    with operator(given) as does:
        status = does.status()
    if as_json:
        said = {"plan": status.plan, "newest": status.newest, "replicas": status.replicas, "learner": status.learner}
        print(json.dumps(_built({**said, "controller": status.controller}), indent=2))
        return
    print(_said(status.plan) if status.plan else NOTHING)
    print(f"newest version: {status.newest or 'none'}")
    print(f"evidence: {status.controller.evidence or 'none' if status.controller else 'no controller is heard of'}")
    for alarm in status.controller.alarms if status.controller else ():
        print(f"ALARM: {alarm}")
    if status.num_unreadable:
        print(f"ALARM: {status.num_unreadable} reports cannot be read")
    for report in status.replicas:
        print(f"replica {report.replica}: revision {report.revision}, versions {list(report.versions)}")
        if report.stand_in:
            print(f"ALARM: it cannot have the stable version; version {report.stand_in} stands in for it")
        if report.damaged:
            print(f"ALARM: {len(report.damaged)} of the blobs that it needs are damaged or missing")
    if status.learner is not None:
        learner = status.learner
        num_provisional, num_evicted = (learner.counts.get(f"classes_{it}", 0) for it in ("provisional", "evicted"))
        classes = f"{learner.num_classes} classes ({num_provisional} provisional, {num_evicted} evicted)"
        print(f"learner: {learner.state}, {classes}, recent accuracy {learner.recent_accuracy:.1%}")
        if learner.refusals:
            num = learner.counts.get("gate_in_a_row", 0)
            print(f"learner: {num} versions in a row were refused, the last as {', '.join(learner.refusals)}")
        drift = f"{learner.num_drifts}, the last: {learner.drifts[-1]}" if learner.drifts else "none"
        print(f"drifts found: {drift}")
        print(f"labels not believed: {_unbelieved(learner.counts) or 'none'}")
        for alarm in learner.alarms:
            print(f"ALARM: {alarm}")


@app.command()
@reads_settings
def promote(given: CliContext, version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Make VERSION (by default the candidate) the stable one."""
    with operator(given) as does:
        _print(does.promote(version, now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def rollback(given: CliContext, as_json: JsonOption = False) -> None:
    """Return to the stable version before this one. Replicas still hold it: nothing is loaded."""
    with operator(given) as does:
        _print(does.rollback(now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def pin(given: CliContext, version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Let VERSION (by default the stable one) answer everything until `unpin`."""
    with operator(given) as does:
        _print(does.pin(version, now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def unpin(given: CliContext, as_json: JsonOption = False) -> None:
    """Let candidates follow and be judged again."""
    with operator(given) as does:
        _print(does.unpin(now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def run(given: CliContext) -> None:
    """Run the controller that promotes and withdraws by itself. A second one stands by."""
    from learner.labels.trust import LabelTrust
    from rollout.controller import Controller
    from services.commands.run import stop_signal
    from services.keys import key_bytes
    from services.stack import open_store
    from wire.bus import Bus
    from wire.receipts import Receipts

    stop: threading.Event = stop_signal()
    settings = given.attached()
    holder = f"{socket.gethostname()}:{os.getpid()}"
    guard = LabelTrust(settings.learner, receipts=Receipts(key_bytes(settings)))
    with closing(open_store(settings)) as store, closing(Bus(settings.bus, client_id="rollout")) as bus:
        os.nice(settings.rollout.niceness)
        Controller(
            store,
            bus,
            config=settings.rollout,
            guard=settings.learner.guard,
            holder=holder,
            refusal=guard.refusal,
            now_ms=now_ms,
        ).run(stop)


@contextmanager
def operator(given: CliContext) -> "Iterator[Operator]":
    """What may be asked of the rollout of the running stack."""
    from rollout.operator import Operator
    from services.stack import open_store

    with closing(open_store(given.attached())) as store:
        yield Operator(store, name=_name())


def _print(plan: "RolloutPlan", as_json: bool) -> None:
    print(json.dumps(_built(plan), indent=2) if as_json else _said(plan))


def _built(records: object) -> Any:
    import msgspec

    return msgspec.to_builtins(records)


def _said(plan: "RolloutPlan") -> str:
    arms = ", ".join(f"{arm.name} version {arm.version} for {arm.share:.0%}" for arm in plan.arms)
    previous = f", rollback goes to version {plan.previous}" if plan.previous else ""
    return f"revision {plan.revision}: {arms}{previous}{', pinned' if plan.pinned else ''} ({plan.reason})"


def _unbelieved(counts: dict[str, int]) -> str:
    """`12 forged, 3 flip`: what was refused or held so far."""
    parted = [(name.partition("_"), num) for name, num in sorted(counts.items()) if num]
    return ", ".join(f"{num} {reason}" for (end, _, reason), num in parted if end in ("refused", "quarantined"))


def _name() -> str:
    """Who asks, for the history. A container may run under a number that has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
