"""`lifelong versions ...`: what was published, what is in a version, and how two versions differ."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.rollout import NOTHING, open_operator, to_builtins

if TYPE_CHECKING:
    from wire.records import WeightManifest

app = typer.Typer(invoke_without_command=True, help="The versions of the weights.")

NumberArgument = Annotated[int, typer.Argument(metavar="VERSION", min=1, show_default=False)]
OtherArgument = Annotated[int, typer.Argument(metavar="OTHER", min=1, show_default=False)]

MEASURED = ("accuracy", "negative_flips", "head_update", "top_update")
"""What is shown of a version's evaluation."""


@app.callback()
@reads_settings
def list_(
    context: CliContext,
    command: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest entries")] = 20,
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
        print(f"{_moment(entry.time_ms)}  version {entry.version:<5} {entry.action:<12} {entry.detail}".rstrip())
    if not status.history:
        print(NOTHING)


@app.command()
@reads_settings
def show(context: CliContext, version: NumberArgument, as_json: JsonOption = False) -> None:
    """Show what VERSION knows, what it was made of, and how it was measured."""
    with open_operator(context) as operator:
        manifest = operator.manifest(version)
    if as_json:
        print(json.dumps(to_builtins(manifest), indent=2))
        return
    print(f"version {manifest.version}, made {_moment(manifest.created_ms)} from version {manifest.parent or 'none'}")
    print(f"{len(manifest.labels)} classes, {manifest.num_bytes:,} bytes in {len(manifest.tensors)} tensors")
    print(f"trained through: {_offsets(manifest.trained_through) or 'nothing'}")
    print(f"holdout: {_evaluation(manifest)}")
    print(f"precisions: {', '.join(precision.name for precision in manifest.precisions) or 'none'}")
    changes = manifest.changes
    if changes.reference:
        print(
            f"of {changes.texts} texts it names {changes.between_old} otherwise than version {changes.reference}, "
            f"and {changes.to_new} by {len(changes.new_classes)} new classes"
        )
    lineage = manifest.lineage
    print(f"lineage: {lineage.gap or f'{len(lineage.rounds)} slow rounds'}")


@app.command()
@reads_settings
def diff(context: CliContext, version: NumberArgument, other: OtherArgument, as_json: JsonOption = False) -> None:
    """Show how OTHER differs from VERSION: classes, tensors, records and accuracy."""
    with open_operator(context) as operator:
        differences = differences_of(operator.manifest(version), operator.manifest(other))
    if as_json:
        print(json.dumps(differences, indent=2))
        return
    for name, value in differences.items():
        print(f"{name}: {json.dumps(value, ensure_ascii=False)}")


def differences_of(before: "WeightManifest", after: "WeightManifest") -> dict[str, Any]:
    """Returns what `after` has otherwise than `before`, by name; records are counted by topic and partition."""
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


def _evaluation(manifest: "WeightManifest") -> str:
    evaluation = manifest.evaluation
    if not evaluation.num_labels:
        return "not measured"
    return f"{evaluation.accuracy:.1%} of {evaluation.num_labels} labels (parent {evaluation.parent_accuracy:.1%})"


def _offsets(offsets: dict[str, int]) -> str:
    return ", ".join(f"{name} {offset}" for name, offset in sorted(offsets.items()))


def _moment(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ms / 1000))
