"""The service that a folder of state belongs to, by its prefixes and its task, in a file beside what it keeps there.

    no such file --claim_folder--> the folder is ours        the file of another service --claim_folder--> FolderTaken

Two services whose prefixes are all that keeps them apart would otherwise meet in a folder that both settings name: one
would go on from the checkpoint of the other, with its texts, or send the answers that the other has left in its spool.
A folder of an earlier release has no such file, and belongs to the service that starts on it first.

Rejected: the prefixes inside a checkpoint (a backup could not be restored under another prefix), and folders named by
prefix (after an upgrade nobody would find what lies in the old one).
"""

from pathlib import Path
from typing import Final

import msgspec

from wire.errors import FolderTaken
from wire.files import atomic_write

FILE: Final = "service.json"


class FolderOwner(msgspec.Struct, frozen=True, kw_only=True):
    """What tells services on the same servers apart, and the tasks of one."""

    bus_prefix: str
    store_prefix: str
    task: str = ""


def claim_folder(folder: Path, owner: FolderOwner, setting: str) -> None:
    """Makes `folder`, which `setting` names, that of `owner`. Raises FolderTaken where it is of another service.

    Where the disk refuses the file, the folder stays as it is: no program is held up by that.
    """
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_write(path, mode=0o600, is_synced=True, may_replace=False) as file:
            file.write(msgspec.json.encode(owner))
    except FileExistsError:
        require_owner(path.read_bytes(), owner, str(path), setting)
    except OSError:
        return


def require_owner(content: bytes, owner: FolderOwner, path: str, setting: str) -> None:
    """Raises FolderTaken where `content`, of the file at `path`, names another service than `owner`."""
    try:
        found = msgspec.json.decode(content, type=FolderOwner)
    except msgspec.DecodeError as error:
        raise FolderTaken(f"{path}: does not say whose state is beside it ({error}). {_fix(path, setting)}") from error
    if found != owner:
        raise FolderTaken(
            f"{path}: the state beside it is of {_named(found)}, and ours is {_named(owner)}. {_fix(path, setting)}"
        )


def _named(owner: FolderOwner) -> str:
    task = f", task {owner.task!r}" if owner.task else ""
    return f"the service with bus.prefix {owner.bus_prefix!r}, store.prefix {owner.store_prefix!r}{task}"


def _fix(path: str, setting: str) -> str:
    return (
        f"Give each service a place of its own (state_dir, or {setting}); where its prefixes were changed, "
        f"remove {path}"
    )
