"""`lifelong backup` and `lifelong restore`: write the whole state of a service to a folder, and read it back."""

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
    """Write the state of the service to a new folder while it runs: Redis, checkpoints and plan, with digests."""
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
    force: Annotated[bool, typer.Option("--force", help="Replace existing state")] = False,
    as_json: JsonOption = False,
) -> None:
    """Restore a backup to an empty Redis and an empty state folder. Stop every program before."""
    from services.backups import check_backup, restore_backup
    from services.commands.output import progress
    from services.keys import require_keys
    from services.open_store import opened_store
    from wire.timestamps import now_ms

    with progress() as say:
        manifest = check_backup(folder, say=say)
        settings = context.process()
        require_keys(settings, f"the key file of the service that was backed up ({', '.join(manifest.signers)})")
        with opened_store(settings) as (settings, store):
            done = restore_backup(settings, store, folder, manifest, is_forced=force, now_ms=now_ms(), say=say)
    _show(manifest, folder, as_json=as_json, newer_erasures=done.newer_erasures)
    if not as_json:
        echo(f"Erasure requests that are newer than the backup, and are kept: {done.newer_erasures}")
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
    echo(f"Version {manifest.current}, and {len(manifest.versions) - 1} others. Store the keys separately: {keys}")
