"""Whose a state folder is, and where the stack that runs on it can be reached: two small files in the folder.

    up, demo --claim--> STATE_DIR/stack.lock    locked as long as the process lives
             --announce--> STATE_DIR/stack.json --read--> predict, feedback, versions, rollout

A folder is owned by whoever holds the lock: the kernel lets go of it when the process is gone, however it went. What
is announced holds no password; whoever needs one gives it in the settings.

Rejected: comparing the start time of the process that the file names. It is reckoned from the clock, which may be set.
"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, BinaryIO

from services.keys import with_signing_key
from services.local.folders import is_locked, locked, new_folder
from services.settings import Settings, replaced, values_of
from services.sources import BadSettings, SettingProblem, variable_of
from wire.logs import HIDDEN, without_password

LOCK = "stack.lock"
FILE = "stack.json"
BUS = ("bus.bootstrap_servers", "bus.prefix")
STORE = ("store.url", "store.prefix", "state_dir")
HTTP = ("serving.http_host", "serving.http_port")

DEMO = "demo-"
"""What the state folders of demos, inside of the state folder, begin with."""

CLAIM_TRIES = 10
CLAIM_PAUSE_S = 0.05


class NotRunning(RuntimeError):
    """No stack runs here and no address is set."""


def claim(folder: Path) -> BinaryIO | None:
    """Claims `folder` for this process, until the file is closed; None where it is another's.

    Removes what its last owner announced.
    """
    new_folder(folder)
    for _ in range(CLAIM_TRIES):
        if (lock := locked(folder / LOCK)) is not None:
            withdraw(folder)
            return lock
        time.sleep(CLAIM_PAUSE_S)  # whoever looks whether it is claimed has the lock for a moment
    return None


def announce(settings: Settings, folder: Path, *, owns_store: bool = False) -> None:
    """Writes to `folder`, which is claimed, where the stack can be reached. `owns_store`: its Redis ends with it."""
    values = {name: value for name, value in values_of(settings).items() if name in (*BUS, *STORE, *HTTP)}
    values["store.url"] = without_password(values["store.url"])
    draft = folder / f"{FILE}.{os.getpid()}"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps({"pid": os.getpid(), "owns_store": owns_store, **values}, default=str))
    os.replace(draft, folder / FILE)


def withdraw(folder: Path) -> None:
    """Removes what `announce` wrote."""
    (folder / FILE).unlink(missing_ok=True)


def attach(settings: Settings) -> Settings:
    """The settings with the addresses of the running stack where none is set, and its signing key.

    Raises NotRunning, and BadSettings where the stack's Redis asks for a password that only its owner was given.
    """
    needs_store = not settings.store.url
    wanted = (*HTTP, *(STORE if needs_store else ()), *(() if settings.bus.bootstrap_servers else BUS))
    if len(wanted) == len(HTTP):
        return with_signing_key(settings, own_store=False)
    found = read(settings.state_dir)
    if found is None:
        raise NotRunning(
            f"no stack runs here (looked in {settings.state_dir}): start `lifelong up` in another terminal, or set "
            "LIFELONG_BUS__BOOTSTRAP_SERVERS and LIFELONG_STORE__URL to the servers that yours uses"
        )
    if needs_store and HIDDEN in found["store.url"]:
        fix = "Give the address that `lifelong up` was given, in this variable: passwords are not written down"
        raise BadSettings([SettingProblem(variable_of("store.url"), f"is required for {found['store.url']}", fix)])
    changes = {name: Path(found[name]) if name == "state_dir" else found[name] for name in wanted}
    return with_signing_key(replaced(settings, changes), own_store=needs_store and found["owns_store"])


def read(folder: Path) -> dict[str, Any] | None:
    """What is announced in `folder`, while its owner lives."""
    try:
        content: dict[str, Any] = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return None
    return content if is_locked(folder / LOCK) else None


def remove_abandoned(folder: Path) -> None:
    """Removes the folders of demos in `folder` that were killed, so that they could not do it themselves."""
    for path in folder.glob(f"{DEMO}*"):
        if (path / LOCK).exists() and (left := claim(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            left.close()
