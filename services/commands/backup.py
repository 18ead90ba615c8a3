"""`lifelong backup` and `lifelong restore`: everything that a service knows, in one folder, and back."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo

if TYPE_CHECKING:
    from services.backups import BackupManifest

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the backup")]


@reads_settings
def backup(context: CliContext, folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Write what the service knows to a new folder, while it runs: Redis, checkpoints, plan, with digests."""
    from services.backups import write_backup
    from services.commands.output import progress
    from services.open_store import opened_store
    from wire.timestamps import now_ms

    with opened_store(context.process()) as (settings, store), progress() as say:
        manifest = write_backup(settings, store, folder, now_ms=now_ms(), say=say)
    _show(manifest, folder, as_json=as_json)


@reads_settings
def restore(
    context: CliContext,
    folder: FolderArgument,
    force: Annotated[bool, typer.Option("--force", help="Take the place of what is there")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a backup into an empty Redis and an empty state folder; every program must have ended."""
    from services.backups import check_backup, restore_backup
    from services.commands.output import progress
    from services.keys import require_keys
    from services.open_store import opened_store
    from wire.timestamps import now_ms

    with progress() as say:
        manifest = check_backup(folder, say=say)
        settings = context.process()
        require_keys(settings, f"the file of keys of the service that was backed up ({', '.join(manifest.signers)})")
        with opened_store(settings) as (settings, store):
            done = restore_backup(settings, store, folder, manifest, is_forced=force, now_ms=now_ms(), say=say)
    _show(manifest, folder, as_json=as_json, newer_erasures=done.newer_erasures)
    if not as_json:
        echo(f"Requests to forget that are newer than the backup, and are kept: {done.newer_erasures}")
        echo(
            f"Restored. New versions have numbers above {done.first}. Start the learner, the rollout, and the replicas"
        )


def _show(manifest: "BackupManifest", folder: Path, *, as_json: bool, **more: int) -> None:
    import msgspec

    if as_json:
        print(json.dumps({"folder": str(folder), **msgspec.to_builtins(manifest), **more}, indent=2))
        return
    echo(f"{folder}: {len(manifest.files)} files, {manifest.num_bytes >> 20} MiB")
    keys = ", ".join(manifest.signers)
    echo(f"Version {manifest.current}, and {len(manifest.versions) - 1} others. Keep the keys apart: {keys}")
