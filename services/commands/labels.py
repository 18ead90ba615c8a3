"""`lifelong labels ...` and `lifelong forget`: change the label set, and erase a subject's training data.

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
    from services.label_commands import LabelEdit, LabelOperator
    from wire.records import CommandOutcome, WeightManifest
    from wire.store import Store


app = typer.Typer(no_args_is_help=True, help="List and change the classes while the service runs.")

LabelsArgument = Annotated[list[str], typer.Argument(metavar="LABEL...", help="Names of the classes")]
OldArgument = Annotated[str, typer.Argument(metavar="LABEL", help="Name of the class")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for a version that has the change")]
TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Longest time to wait")]


@app.command("list")
@reads_settings
def list_(context: CliContext, as_json: JsonOption = False) -> None:
    """Show the classes, the configured list, renamed and retired classes, and labels that wait to be added."""
    import msgspec

    from services.label_commands import ClassesInForce, waiting_labels
    from services.programs import open_bus, open_store

    settings = context.attached()
    with closing(open_store(settings)) as store, closing(open_bus(settings, "labels")) as bus:
        in_force = ClassesInForce.read(store, settings.labels)
        waiting = waiting_labels(bus, in_force) if settings.labels.mode == "ask" else {}
        commands = store.labels.requested()
    labels = in_force.labels
    shown = {
        "mode": labels.config.mode,
        "classes": list(in_force.classes),
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
    release: Annotated[
        bool, typer.Option("--release/--no-release", help="Send their quarantined labels to the learner")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Add classes to the label set, or take back retired ones. Their quarantined labels are sent to the learner."""
    from services.label_commands import LabelEdit

    with _opened(context) as (store, operator):
        done = _carried_out(store, operator, LabelEdit(action="add", labels=tuple(labels)), timeout if wait else 0.0)
        done["released"] = operator.release(labels) if release and wait else 0
    _print(done, as_json)


@app.command()
@reads_settings
def rename(
    context: CliContext,
    old: OldArgument,
    new: Annotated[str, typer.Argument(metavar="NEW", help="New name of the class")],
    wait: WaitOption = True,
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Rename a class. What was learnt stays, and the old name means the new one from now on."""
    from services.label_commands import LabelEdit

    _print(_changed(context, LabelEdit(action="rename", labels=(old,), to=(new,)), timeout if wait else 0.0), as_json)


@app.command()
@reads_settings
def merge(
    context: CliContext,
    labels: LabelsArgument,
    into: Annotated[str, typer.Option("--into", metavar="LABEL", help="Name of the merged class")],
    wait: WaitOption = True,
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Merge several classes into one. What was learnt of them is added up, and each old name means the merged class."""
    from services.label_commands import LabelEdit

    wish = LabelEdit(action="merge", labels=tuple(labels), to=(into,))
    _print(_changed(context, wish, timeout if wait else 0.0), as_json)


@app.command()
@reads_settings
def split(
    context: CliContext,
    old: OldArgument,
    into: Annotated[list[str], typer.Option("--into", metavar="LABEL", help="A new class; may be repeated")],
    forget: Annotated[bool, typer.Option("--forget", help="Remove what was learnt of the old class")] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Split a class: new classes take some of its texts. They learn from the labels that come; what was learnt before
    stays with the old class, unless --forget removes it."""
    from services.label_commands import LabelEdit

    wish = LabelEdit(action="split", labels=(old,), to=tuple(into), forgets=forget)
    done = _changed(context, wish, timeout if wait else 0.0)
    done["old_rows"] = "forgotten" if forget else f"kept as {old!r} until new labels change it"
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
    """Retire classes: later versions no longer answer them, and their labels are refused."""
    from services.label_commands import LabelEdit

    _print(_changed(context, LabelEdit(action="retire", labels=tuple(labels)), timeout if wait else 0.0), as_json)


@contextmanager
def _opened(context: CliContext) -> "Iterator[tuple[Store, LabelOperator]]":
    from services.admin_log import AdminWriter
    from services.keys import key_ring
    from services.label_commands import LabelOperator
    from services.programs import open_bus, open_store

    settings = context.attached()
    with closing(open_store(settings)) as store, closing(open_bus(settings, "labels")) as bus:
        audit = AdminWriter(
            bus, key_ring(settings), prefix=settings.bus.prefix, source=f"labels:{now_ms():x}", now_ms=now_ms
        )
        max_chars = settings.learner.max_label_chars
        yield store, LabelOperator(store, bus, audit, config=settings.labels, max_chars=max_chars)


def _changed(context: CliContext, wish: "LabelEdit", timeout_s: float) -> dict[str, Any]:
    """Requests a change of the label set from the running learner, and returns its outcome."""
    with _opened(context) as (store, operator):
        return _carried_out(store, operator, wish, timeout_s)


def _carried_out(store: "Store", operator: "LabelOperator", wish: "LabelEdit", timeout_s: float) -> dict[str, Any]:
    """Requests a change, waits for its version if `timeout_s` is not 0, and returns the outcome."""
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
        echo("The learner will carry it out.")
        return
    samples = ", ".join(f"{num} in {place}" for place, num in done["samples"].items() if num)
    echo(f"Version {done['version']} is the first with this change. Samples changed: {samples or 'none'}.")
    if "old_rows" in done:
        echo(f"What was learnt before is {done['old_rows']}.")
    if done.get("released"):
        echo(f"{done['released']} quarantined labels were sent to the learner again.")


def _lines(shown: dict[str, Any]) -> Iterator[str]:
    """Yields the lines of text that describe the label set."""
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
    subject: Annotated[str, typer.Option("--subject", metavar="KEY", help="The `key` of the subject's events")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for weights without the subject's data")] = True,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Longest time to wait")] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Erase what all tasks learnt from a subject's texts, publish weights without it, and never learn from the subject
    again."""
    from services.commands.rollout import user_name
    from services.keys import key_ring
    from services.members.texts import trained_on
    from services.operator_commands import await_effect
    from services.programs import open_stores
    from wire.keyring import subject_digest
    from wire.records import Erase
    from wire.tasks import DEFAULT

    if not subject:
        raise typer.BadParameter("give the key of the subject's events; events without a key belong to no subject")
    settings = context.attached()
    digest = subject_digest(key_ring(settings).subject, subject)
    with ExitStack() as opened:
        stores = open_stores(settings, opened)
        asked = {
            task: store.commands.append(Erase(digest=digest), source=user_name(), time_ms=now_ms())
            for task, store in stores.items()
        }
        if not wait:
            text = f"Requested, as {digest}. The learner will carry it out."
            echo(json.dumps({"digest": digest}) if as_json else text)
            return
        done: dict[str, tuple[CommandOutcome, WeightManifest]] = {}
        for task, store in stores.items():
            outcome = await_effect(store, asked[task], timeout_s=timeout)
            done[task] = outcome, store.versions.manifest(store.versions.current())
    pretrained = trained_on(digest, settings.state_dir)
    if as_json:
        results = {task: {"digest": digest} | _result_fields(*result) for task, result in done.items()}
        shown = {**results.pop(DEFAULT), "tasks": results} if len(results) > 1 else results[DEFAULT]
        print(json.dumps(shown | ({"pretrained": pretrained} if pretrained else {}), indent=2))
        return
    for task, result in done.items():
        lines = _summary(*result)
        echo(f"Task {task}. {lines[0]}" if task else lines[0], *lines[1:])
    for folder, num in pretrained.items():
        echo(f"{folder} was pretrained on {num} of its texts; `lifelong pretrain --from-topic` now leaves them out.")


def _result_fields(outcome: "CommandOutcome", manifest: "WeightManifest") -> dict[str, Any]:
    import msgspec

    proof = {"version": manifest.version, "erased": manifest.erased, "trained_through": manifest.trained_through}
    return {**msgspec.to_builtins(outcome), "current": proof}


def _summary(outcome: "CommandOutcome", manifest: "WeightManifest") -> list[str]:
    removed = ", ".join(f"{count} {place.replace('_', ' ')}" for place, count in outcome.numbers.items() if count)
    versions = (
        f"Version {outcome.version} is the first without it. The present version, {manifest.version}, was made after "
        f"{manifest.erased} erasures, and this is command {outcome.seq}."
    )
    if outcome.state == "purged":
        return [versions, "No older version and no older checkpoint is left."]
    return [
        f"Removed: {removed or 'nothing, since nothing of it was kept'}.",
        versions,
        f"Versions before {outcome.version} and their checkpoints are removed once the rollout needs them no more. "
        "Run this command again to see whether they are gone.",
    ]
