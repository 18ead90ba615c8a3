"""`lifelong export`, and `lifelong import --model`: exchange versions as folders with other libraries and services."""

import dataclasses
import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo, progress
from wire.timestamps import now_ms


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """The version to export, and the additional formats."""

    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Version to export [default: the stable one]")
    ] = None
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write model.onnx")] = False


@reads_settings
def export_(
    context: CliContext,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; it must not exist")],
    options: ExportOptions,
    as_json: JsonOption = False,
) -> None:
    """Export a version, for sentence-transformers and for other services: weights, tokenizer, labels and model card."""
    from model.encoders import FAMILIES
    from model.source import encoder_folder, is_import_path
    from services.exported import export_version
    from services.programs import open_store

    settings = context.attached()
    tokenizer_json = b""
    if is_import_path(settings.encoder):
        # The version may belong to an encoder family that this process has not loaded yet.
        FAMILIES.claiming(settings.encoder)
    else:
        tokenizer_json = (encoder_folder(settings.encoder) / "tokenizer.json").read_bytes()
    with closing(open_store(settings)) as store, progress() as say:
        number = options.version
        if number is None:
            plan = store.plans.read()
            number = plan.stable if plan else store.versions.current()
        made = export_version(store, number, folder, tokenizer_json, with_onnx=options.onnx, say=say)
    if as_json:
        print(json.dumps(dataclasses.asdict(made), indent=2))
        return
    echo(f"{made.folder}: version {made.version}, {made.labels} labels, {made.bytes / 1e6:.1f} MB; see its README.md")
    if made.lacks:
        echo(f"Other libraries cannot load it: {made.lacks}.")


def import_model(context: CliContext, folder: Path, *, as_json: bool) -> None:
    """Stores the version in a folder, and makes it the candidate: its ramp begins, and labels decide about it."""
    from model.encoders import open_inputs
    from rollout.operator import Operator
    from services.commands.rollout import user_name
    from services.commands.rollout_text import render_plan
    from services.exported import import_version
    from services.programs import open_store

    settings = context.attached()
    inputs = open_inputs(settings.encoder, max_tokens=settings.serving.max_tokens)
    with closing(open_store(settings)) as store:
        manifest = import_version(store, folder, inputs, now_ms=now_ms())
        operator = Operator(store, name=user_name(), config=settings.rollout)
        plan = operator.start(manifest.version, now_ms=now_ms())
    if as_json:
        print(json.dumps({"version": manifest.version, "labels": len(manifest.labels), "revision": plan.revision}))
        return
    echo(f"{folder} is version {manifest.version} here: {len(manifest.labels)} labels. {render_plan(plan)}")
