"""`lifelong labels ...` and `lifelong forget`: changes the set of labels, and erases what a subject's texts taught.

The learner follows both while the service runs.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo, json_lines
from wire.timestamps import now_ms

if TYPE_CHECKING:
    from services.label_commands import LabelOperator, Wish
    from wire.records import CommandOutcome, WeightManifest
    from wire.store import Store


app = typer.Typer(no_args_is_help=True, help="The set of labels, which may change while the service runs.")

LabelsArgument = Annotated[list[str], typer.Argument(metavar="LABEL...", help="Which classes")]
OldArgument = Annotated[str, typer.Argument(metavar="LABEL", help="Which class")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for a version that knows it")]
TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="For how long")]


@app.command("list")
@reads_settings
def list_(context: CliContext, as_json: JsonOption = False) -> None:
    """Show the classes, the list, the names that were changed, and labels that wait to be added."""
    import msgspec

    from services.label_commands import ClassesInForce, waiting_labels
    from services.programs import open_bus, open_store

    settings = context.attached()
    with closing(open_store(settings)) as store, closing(open_bus(settings, "labels")) as bus:
        known = ClassesInForce.read(store, settings.labels)
        waiting = waiting_labels(bus, known) if settings.labels.mode == "ask" else {}
        commands = store.labels.requested()
    labels = known.labels
    shown = {
        "mode": labels.config.mode,
        "classes": list(known.classes),
        "listed": sorted(labels.listed),
        "renamed": dict(labels.meanings),
        "retired": sorted(labels.retired),
        "waiting": waiting,
        "commands": msgspec.to_builtins(commands),
    }
    echo(*(json_lines(shown) if as_json else _lines(shown)))


@app.command()
@reads_settings
def add(
    context: CliContext,
    labels: LabelsArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = 60.0,
    release: Annotated[bool, typer.Option("--release/--no-release", help="Send what waits for them again")] = True,
    as_json: JsonOption = False,
) -> None:
    """Add labels to the set; take back what was retired. What lies in quarantine for them is sent to the learner."""
    from services.label_commands import Wish

    with _opened(context) as (store, operator):
        done = _carried_out(store, operator, Wish(action="add", labels=tuple(labels)), timeout if wait else 0.0)
        done["released"] = operator.release(labels) if release and wait else 0
    _print(done, as_json)


@app.command()
@reads_settings
def rename(
    context: CliContext,
    old: OldArgument,
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name")],
    wait: WaitOption = True,
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Give a class another name. What was learnt stays, and a label of the old name means the new one from now on."""
    from services.label_commands import Wish

    _print(_changed(context, Wish(action="rename", labels=(old,), to=(new,)), timeout if wait else 0.0), as_json)


@app.command()
@reads_settings
def merge(
    context: CliContext,
    labels: LabelsArgument,
    into: Annotated[str, typer.Option("--into", metavar="LABEL", help="The name of all of them from now on")],
    wait: WaitOption = True,
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Make one class of several. What was learnt of them is added up, and a label of any of them means the one."""
    from services.label_commands import Wish

    wish = Wish(action="merge", labels=tuple(labels), to=(into,))
    _print(_changed(context, wish, timeout if wait else 0.0), as_json)


@app.command()
@reads_settings
def split(
    context: CliContext,
    old: OldArgument,
    into: Annotated[list[str], typer.Option("--into", metavar="LABEL", help="A class that takes texts of it")],
    forget: Annotated[bool, typer.Option("--forget", help="Take out what was learnt of it until now")] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Let classes take texts of another one. They are learnt from the labels that come; what was learnt stays where it
    is, unless it is forgotten."""
    from services.label_commands import Wish

    wish = Wish(action="split", labels=(old,), to=tuple(into), forgets=forget)
    done = _changed(context, wish, timeout if wait else 0.0)
    done["old_rows"] = "forgotten" if forget else f"kept: they are {old!r} until labels say otherwise"
    _print(done, as_json)


@app.command()
@reads_settings
def retire(
    context: CliContext,
    labels: LabelsArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Take classes out: no version after this one answers them, and their labels are refused."""
    from services.label_commands import Wish

    _print(_changed(context, Wish(action="retire", labels=tuple(labels)), timeout if wait else 0.0), as_json)


@contextmanager
def _opened(context: CliContext) -> "Iterator[tuple[Store, LabelOperator]]":
    from services.admin_log import AdminWriter
    from services.keys import ring_of
    from services.label_commands import LabelOperator
    from services.programs import open_bus, open_store

    settings = context.attached()
    with closing(open_store(settings)) as store, closing(open_bus(settings, "labels")) as bus:
        audit = AdminWriter(
            bus, ring_of(settings), prefix=settings.bus.prefix, source=f"labels:{now_ms():x}", now_ms=now_ms
        )
        max_chars = settings.learner.max_label_chars
        yield store, LabelOperator(store, bus, audit, config=settings.labels, max_chars=max_chars)


def _changed(context: CliContext, wish: "Wish", timeout_s: float) -> dict[str, Any]:
    """Carries out what is wished on the service of the settings; returns what is so now."""
    with _opened(context) as (store, operator):
        return _carried_out(store, operator, wish, timeout_s)


def _carried_out(store: "Store", operator: "LabelOperator", wish: "Wish", timeout_s: float) -> dict[str, Any]:
    """Asks for what is wished, and waits for its version if there is time; returns what is so now."""
    from services.commands.rollout import user_name
    from services.operator_commands import await_effect

    command = operator.request(wish, source=user_name(), now_ms=now_ms())
    done = command.body | {"command": command.seq}
    if timeout_s:
        outcome = await_effect(store, command, timeout_s=timeout_s)
        done |= {"samples": outcome.numbers, "version": outcome.version}
    return done


def _print(done: dict[str, Any], as_json: bool) -> None:
    if as_json:
        echo(*json_lines(done))
        return
    to = f" -> {', '.join(done['to'])}" if done["to"] else ""
    echo(f"{done['action']} {', '.join(done['labels'])}{to}: command {done['command']}")
    if "version" not in done:
        echo("The learner will follow it.")
        return
    samples = ", ".join(f"{num} in {place}" for place, num in done["samples"].items() if num)
    echo(f"Version {done['version']} is the first that knows it. Samples changed: {samples or 'none'}.")
    if "old_rows" in done:
        echo(f"What was learnt until now is {done['old_rows']}.")
    if done.get("released"):
        echo(f"{done['released']} labels were in quarantine for it, and are sent again.")


def _lines(shown: dict[str, Any]) -> Iterator[str]:
    """Yields what a person reads of the set."""
    yield f"mode: {shown['mode']}"
    yield f"classes: {', '.join(shown['classes']) or 'none yet'}"
    for name in ("listed", "retired"):
        if shown[name]:
            yield f"{name}: {', '.join(shown[name])}"
    for old, new in shown["renamed"].items():
        yield f"renamed: {old} -> {new}"
    for label, num in shown["waiting"].items():
        yield f"waiting: {label} ({num} labels; `lifelong labels add` takes them)"


@reads_settings
def forget(
    context: CliContext,
    *,
    subject: Annotated[str, typer.Option("--subject", metavar="KEY", help="The `key` of the events about it")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for weights without it")] = True,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="For how long")] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Erase what was learnt from the texts of a subject, by all tasks, publish weights without it, and never learn from
    it again."""
    from services.commands.rollout import user_name
    from services.keys import ring_of
    from services.operator_commands import await_effect
    from services.programs import open_stores
    from wire.keyring import subject_digest
    from wire.records import Erase
    from wire.tasks import DEFAULT

    if not subject:
        raise typer.BadParameter("give the key of the events; an event without a key is about nobody")
    settings = context.attached()
    digest = subject_digest(ring_of(settings).subject, subject)
    with ExitStack() as opened:
        stores = open_stores(settings, opened)
        asked = {
            task: store.commands.append(Erase(digest=digest), source=user_name(), time_ms=now_ms())
            for task, store in stores.items()
        }
        if not wait:
            echo(json.dumps({"digest": digest}) if as_json else f"Asked for, as {digest}. The learner will see to it.")
            return
        done: dict[str, tuple[CommandOutcome, WeightManifest]] = {}
        for task, store in stores.items():
            outcome = await_effect(store, asked[task], timeout_s=timeout)
            done[task] = outcome, store.versions.manifest(store.versions.current())
    if as_json:
        told = {task: {"digest": digest} | _told(*each) for task, each in done.items()}
        print(json.dumps({**told.pop(DEFAULT), "tasks": told} if len(told) > 1 else told[DEFAULT], indent=2))
        return
    for task, each in done.items():
        lines = _summary(*each)
        echo(f"Task {task}. {lines[0]}" if task else lines[0], *lines[1:])


def _told(outcome: "CommandOutcome", manifest: "WeightManifest") -> dict[str, Any]:
    import msgspec

    proof = {"version": manifest.version, "erased": manifest.erased, "trained_through": manifest.trained_through}
    return {**msgspec.to_builtins(outcome), "current": proof}


def _summary(outcome: "CommandOutcome", manifest: "WeightManifest") -> list[str]:
    where = ", ".join(f"{count} {place.replace('_', ' ')}" for place, count in outcome.numbers.items() if count)
    knows = (
        f"Version {outcome.version} is the first without it; version {manifest.version} says that {manifest.erased} "
        f"erasures went before it, and this is command {outcome.seq}."
    )
    if outcome.state == "purged":
        return [knows, "No older version and no older checkpoint is left."]
    return [
        f"Removed: {where if where else 'nothing, for nothing of it was kept'}.",
        knows,
        f"Versions before {outcome.version} and their checkpoints go when the rollout needs none of them any more; ask "
        "again to see whether they have.",
    ]
