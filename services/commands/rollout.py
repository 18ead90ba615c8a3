"""`lifelong rollout ...`: which version answers which traffic and why, and the changes that an operator may make."""

import getpass
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings, stop_signal
from services.commands.output import echo, json_lines
from services.commands.rollout_text import render_decision, render_plan
from wire.timestamps import now_ms

if TYPE_CHECKING:
    from rollout.operator import Operator, RolloutStatus
    from wire.records import RolloutPlan

app = typer.Typer(no_args_is_help=True, help="Which version answers which share of the traffic.")

VersionArgument = Annotated[
    int | None, typer.Argument(metavar="VERSION", min=1, show_default=False, help="As `lifelong versions` lists it")
]


@app.command("status")
@reads_settings
def status_(context: CliContext, as_json: JsonOption = False) -> None:
    """Show the state, as `lifelong status` does. With --json, print the full reports of all processes."""
    from services.page.terminal import show

    with open_operator(context) as operator:
        if as_json:
            print(json.dumps(_status_json(operator.status()), indent=2))
        else:
            show(operator)


@app.command()
@reads_settings
def history(
    context: CliContext,
    days: Annotated[float, typer.Option("--days", min=0, help="Show decisions of this many last days")] = 90.0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of decisions to show")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the decisions, newest first: version, time, rule and reason. With --json, also the numbers behind them."""
    with open_operator(context) as operator:
        decisions = operator.history(since_ms=now_ms() - round(days * 86_400_000), entries=limit)
    if as_json:
        print(json.dumps(to_builtins(decisions), indent=2))
        return
    for decision in decisions:
        echo(render_decision(decision))
    if not decisions:
        echo("No decision was made yet.")


@app.command()
@reads_settings
def start(
    context: CliContext,
    version: Annotated[int, typer.Argument(min=1, help="As `lifelong versions` lists it")],
    as_json: JsonOption = False,
) -> None:
    """Make VERSION the candidate: its ramp begins, and labels decide about it. A better, newer one may overtake it."""
    with open_operator(context) as operator:
        _print_plan(operator.start(version, now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def promote(context: CliContext, version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Make VERSION (by default the candidate) the stable version."""
    with open_operator(context) as operator:
        _print_plan(operator.promote(version, now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def rollback(context: CliContext, as_json: JsonOption = False) -> None:
    """Return to the last version that was stable for a minute. Replicas still hold it, so they load nothing."""
    with open_operator(context) as operator:
        _print_plan(operator.rollback(now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def approve(context: CliContext, version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Allow VERSION (by default the candidate) to become stable as soon as the evidence is for it."""
    with open_operator(context) as operator:
        _print_plan(operator.approve(version, now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def pause(context: CliContext, as_json: JsonOption = False) -> None:
    """Stop ramps and promotions until `resume`. Bad versions are still withdrawn; new ones get their share."""
    with open_operator(context) as operator:
        _print_plan(operator.pause(now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def resume(context: CliContext, as_json: JsonOption = False) -> None:
    """Continue ramps and promotions."""
    with open_operator(context) as operator:
        _print_plan(operator.resume(now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def pin(context: CliContext, version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Let VERSION (by default the stable version) answer everything until `unpin`."""
    with open_operator(context) as operator:
        _print_plan(operator.pin(version, now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def unpin(context: CliContext, as_json: JsonOption = False) -> None:
    """End `pin`: new versions get traffic again, and candidates are judged again."""
    with open_operator(context) as operator:
        _print_plan(operator.unpin(now_ms=now_ms()), as_json)


@app.command()
@reads_settings
def run(context: CliContext) -> None:
    """Run the controller, which promotes and withdraws versions. A second controller stands by."""
    from rollout.controller import Controller
    from rollout.decider import Decider
    from rollout.judge import Judge
    from services.keys import key_ring
    from services.programs import open_bus, open_store
    from services.topics import require_topics
    from wire import metrics, traces
    from wire.draws import AUDIT, is_drawn
    from wire.label_set import find_refusal
    from wire.receipts import Receipts

    stop: threading.Event = stop_signal()
    settings = context.attached()
    ring = key_ring(settings)
    ring.require_signer()
    require_topics(settings, "rollout")
    holder = f"{socket.gethostname()}:{os.getpid()}"
    receipts = Receipts.following(ring)
    trust = settings.learner.trust
    refusal = partial(
        find_refusal,
        receipts=receipts,
        max_chars=settings.learner.max_label_chars,
        is_required=trust.require_receipts,
        max_age_ms=1e3 * trust.receipt_max_age_s,
    )
    with closing(open_store(settings)) as store, closing(open_bus(settings, "rollout")) as bus:

        def is_audited(event_id: str) -> bool:
            return is_drawn(receipts.draws, AUDIT, event_id, settings.serving.audit_share)

        def open_judge() -> Judge:
            decider = Decider(
                store,
                config=settings.rollout,
                trust=trust,
                refusal=refusal,
                now_ms=now_ms,
                is_audited=is_audited,
                labels=settings.labels,
            )
            return Judge(bus, decider, niceness=settings.rollout.niceness)

        def targets() -> list[str]:
            return [report.metrics_address for report in store.reports.replicas() if report.metrics_address]

        with metrics.serve(settings.metrics, targets=targets), traces.export(settings.traces, "rollout"):
            Controller(store, open_judge, config=settings.rollout, holder=holder, now_ms=now_ms).run(stop)


@contextmanager
def open_operator(context: CliContext) -> "Iterator[Operator]":
    """Opens the store of the running service, and yields the operator's commands on its rollout."""
    from rollout.operator import Operator
    from services.programs import open_store

    settings = context.attached()
    with closing(open_store(settings)) as store:
        yield Operator(store, name=user_name(), config=settings.rollout)


def _print_plan(plan: "RolloutPlan", as_json: bool) -> None:
    echo(*(json_lines(to_builtins(plan)) if as_json else [render_plan(plan)]))


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


def user_name() -> str:
    """Returns the user name for the history, or the user id if it has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
