"""`lifelong versions ...`: lists, shows and compares versions, and says which version answered at a given time.

It also rebuilds a version, and repairs a version's blobs.
"""

import dataclasses
import json
import time
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo, json_lines, progress
from services.commands.rollout import open_operator, to_builtins, user_name
from services.commands.rollout_text import NOTHING

if TYPE_CHECKING:
    from services.rebuild import Rebuilt
    from wire.records import WeightManifest

app = typer.Typer(invoke_without_command=True, help="The versions of the weights.")

NumberArgument = Annotated[int, typer.Argument(metavar="VERSION", min=1, show_default=False)]
OtherArgument = Annotated[int, typer.Argument(metavar="OTHER", min=1, show_default=False)]

DIFFERS = 1
"""Exit code if the rebuilt version differs, or if a blob cannot be repaired."""

MEASURED = ("accuracy", "negative_flips", "head_update", "top_update")
"""The fields of a version's evaluation that are compared."""


@app.callback()
@reads_settings
def list_(
    context: CliContext,
    command: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of entries to show")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the publications, newest first; show or compare versions. `lifelong rollout history` has the decisions."""
    if command.invoked_subcommand:
        return
    with open_operator(context) as operator:
        status = operator.status(entries=limit)
    if as_json:
        print(json.dumps({"current": status.current, "entries": to_builtins(status.history)}, indent=2))
        return
    for entry in status.history:
        echo(f"{_moment(entry.time_ms)}  version {entry.version:<5} {entry.action:<12} {entry.detail}".rstrip())
    if not status.history:
        echo(NOTHING)


@app.command()
@reads_settings
def show(context: CliContext, version: NumberArgument, as_json: JsonOption = False) -> None:
    """Show a version: its classes, its training data, its evaluation and its lineage."""
    with open_operator(context) as operator:
        manifest = operator.manifest(version)
    if as_json:
        print(json.dumps(to_builtins(manifest), indent=2))
        return
    echo(f"version {manifest.version}, made {_moment(manifest.created_ms)} from version {manifest.parent or 'none'}")
    echo(f"{len(manifest.labels)} classes, {manifest.num_bytes:,} bytes in {len(manifest.tensors)} tensors")
    echo(f"trained through: {_offsets(manifest.trained_through) or 'nothing'}")
    echo(f"holdout: {_evaluation(manifest)}")
    echo(f"precisions: {', '.join(precision.name for precision in manifest.precisions) or 'none'}")
    changes = manifest.name_changes
    if changes.texts:
        echo(
            f"of {changes.texts} texts, {changes.between_old} get another old class than by version "
            f"{changes.reference}, and {changes.to_new} get one of {len(changes.new_classes)} new classes"
        )
    elif changes.reference:
        echo(
            f"its encoder is not the encoder of version {changes.reference}. Holdout samples that are right: "
            f"{changes.held_wins} by this version only, {changes.held_losses} by version {changes.reference} only; "
            f"{changes.held_ties} by both or neither"
        )
    lineage = manifest.lineage
    echo(f"lineage: {lineage.gap or f'{len(lineage.rounds)} slow rounds'}")


@app.command()
@reads_settings
def diff(context: CliContext, version: NumberArgument, other: OtherArgument, as_json: JsonOption = False) -> None:
    """Show how OTHER differs from VERSION: classes, tensors, records and accuracy."""
    with open_operator(context) as operator:
        differences = manifest_differences(operator.manifest(version), operator.manifest(other))
    if as_json:
        print(json.dumps(differences, indent=2))
        return
    for name, value in differences.items():
        echo(f"{name}: {json.dumps(value, ensure_ascii=False)}")


@app.command()
@reads_settings
def at(
    context: CliContext,
    moment: Annotated[str, typer.Argument(metavar="TIME", help="As 2026-11-27T15:00:00, by default in local time")],
    span_s: Annotated[float, typer.Option("--span", min=0.001, max=86_400, help="Seconds before TIME to read")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show which version answered at TIME, by arm, and how often in the seconds before, from the topic of answers."""
    from services.programs import open_bus
    from services.versions_at import answered_at

    moment_ms = _moment_ms(moment)
    with closing(open_bus(context.attached(), "versions")) as bus:
        counts = answered_at(bus, moment_ms, span_ms=round(1_000 * span_s))
    if as_json:
        print(json.dumps([dataclasses.asdict(count) for count in counts], indent=2))
        return
    for count in counts:
        echo(f"{count.arm:<10} version {count.version:<5} {count.answers} answers, the last {_moment(count.last_ms)}")
    if not counts:
        echo(f"no answer in the {span_s:g} s before {moment}")


@app.command()
@reads_settings
def repair(
    context: CliContext,
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", min=1, help="By default the current version")
    ] = None,
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the learner has finished")] = True,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Longest time to wait")] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Let the learner compare the blobs of VERSION with its own copies, and rewrite damaged ones.

    The learner repairs blobs that replicas report without this command. Exits with 1 if the learner cannot make a blob
    again.
    """
    from services.operator_commands import await_effect
    from services.programs import open_store
    from wire.records import Repair
    from wire.timestamps import now_ms

    with closing(open_store(context.attached())) as store:
        manifest = store.versions.manifest(store.versions.current() if version is None else version)
        digests = tuple(sorted({tensor.digest for tensor in manifest.tensors}))
        command = store.commands.append(Repair(digests=digests), source=user_name(), time_ms=now_ms())
        if not wait:
            echo(json.dumps({"command": command.seq}) if as_json else f"Requested, as command {command.seq}.")
            return
        numbers = await_effect(store, command, timeout_s=timeout).numbers
    counts = {name: numbers.get(name, 0) for name in ("sound", "repaired", "not_at_hand")}
    text = ", ".join(f"{num} {name.replace('_', ' ')}" for name, num in counts.items())
    lines = json_lines({"version": manifest.version} | counts) if as_json else [f"Version {manifest.version}: {text}."]
    echo(*lines)
    if counts["not_at_hand"]:
        raise typer.Exit(DIFFERS)


@app.command()
@reads_settings
def rebuild(
    context: CliContext,
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", min=1, help="By default the current version")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild VERSION from the topics and its lineage, and compare every bit. Exits with 1 if a bit differs.

    It needs the settings of the learner that published it, the topics from their start, and the same kind of processor.
    """
    import torch

    from learner.learner import Learner
    from learner.process import EncoderChoice, TaskChoice, open_for_task
    from learner.release.tensors import stored_states
    from services.keys import key_ring
    from services.programs import open_bus, open_store
    from services.rebuild import rebuild_version
    from wire.receipts import Receipts

    settings = context.attached()
    # Sums over several threads differ in their last bits.
    torch.set_num_threads(settings.learner.threads)
    with closing(open_store(settings)) as store:
        manifest = store.versions.manifest(store.versions.current() if version is None else version)
        states = stored_states(manifest, store.blobs)
    choice = EncoderChoice(settings.encoder, manifest.max_tokens or settings.serving.max_tokens)
    config, strata, tokenizer = open_for_task(settings.learner, choice, TaskChoice(settings.labels, settings.readers))
    ring = key_ring(settings)
    learner = Learner(config, strata, tokenizer, receipts=Receipts(*ring.receipts))
    learner.label_config = settings.labels
    learner.names.draw_holdout_by(ring.holdout)
    with closing(open_bus(settings, "rebuild")) as bus, progress() as say:
        result = rebuild_version(manifest, learner, config, bus, say=say, states=states)
    echo(*(json_lines(dataclasses.asdict(result)) if as_json else [_summary(result)]))
    if result.differing:
        raise typer.Exit(DIFFERS)


def manifest_differences(before: "WeightManifest", after: "WeightManifest") -> dict[str, Any]:
    """Returns the differences of `after` from `before`, by name. Records are counted by topic and partition."""
    old = {tensor.name: tensor.digest for tensor in before.tensors}
    new = {tensor.name: tensor.digest for tensor in after.tensors}
    partitions = sorted(before.trained_through.keys() | after.trained_through.keys())
    return {
        "versions": [before.version, after.version],
        "classes_added": sorted({*after.labels} - {*before.labels}),
        "classes_removed": sorted({*before.labels} - {*after.labels}),
        "tensors_changed": sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)),
        "records": {
            name: after.trained_through.get(name, 0) - before.trained_through.get(name, 0) for name in partitions
        },
        "slow_rounds": len(after.lineage.rounds) - len(before.lineage.rounds),
        "erasures": after.erased - before.erased,
    } | {name: [getattr(before.evaluation, name), getattr(after.evaluation, name)] for name in MEASURED}


def _summary(result: "Rebuilt") -> str:
    origin = f"Version {result.version}, from {result.records} records and {result.rounds} slow rounds"
    if not result.differing:
        return f"{origin}: all {result.tensors} tensors are the same, bit for bit."
    return f"{origin}: {len(result.differing)} of {result.tensors} tensors differ: {', '.join(result.differing)}"


def _evaluation(manifest: "WeightManifest") -> str:
    evaluation = manifest.evaluation
    if not evaluation.num_labels:
        return "not measured"
    lines = [f"{evaluation.accuracy:.1%} of {evaluation.num_labels} labels (parent {evaluation.parent_accuracy:.1%})"]
    if evaluation.micro_f1:
        lines.append("micro-F1 {:.3f} (parent {:.3f})".format(*evaluation.micro_f1))
    if evaluation.absolute_error:
        lines.append("mean absolute error {:.4g} (parent {:.4g})".format(*evaluation.absolute_error))
    for name, (value, before) in (evaluation.figures or {}).items():
        lines.append(f"{name} {value:.4g} (parent {before:.4g})")
    return "; ".join(lines)


def _offsets(offsets: dict[str, int]) -> str:
    return ", ".join(f"{name} {offset}" for name, offset in sorted(offsets.items()))


def _moment(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ms / 1000))


def _moment_ms(text: str) -> int:
    """Returns the time in ms. Raises BadParameter if the text is not a time."""
    try:
        return round(1_000 * datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time; write it as 2026-11-27T15:00:00") from None
