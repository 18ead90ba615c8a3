"""The owner of a state folder, and the addresses of the stack that runs on it, in two small files of the folder.

    up, demo --claim--> STATE_DIR/stack.lock    locked while the process lives
             --announce--> STATE_DIR/stack.json --read_announcement--> predict, feedback, versions, rollout

The process that holds the lock owns the folder. The kernel releases the lock when the process ends, even if it is
killed. The announcement holds no password; a command that needs a password must have it in its settings.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

from services.keys import with_signing_key
from services.local.folders import is_locked, lock_file, new_folder
from services.settings import BadSettings, Settings, environment_variable, replaced, values_by_name
from wire.files import atomic_write
from wire.logs import HIDDEN, without_password

LOCK = "stack.lock"
FILE = "stack.json"
BUS = ("bus.bootstrap_servers", "bus.prefix")
STORE = ("store.url", "store.prefix", "state_dir")
HTTP = ("serving.http_host", "serving.http_port")

CLAIM_TRIES = 10
CLAIM_PAUSE_S = 0.05


class NotRunning(RuntimeError):
    """No stack runs here and no address is set."""


def claim(folder: Path) -> BinaryIO | None:
    """Claims `folder` for this process, until the returned file is closed; None if another process owns the folder.

    Removes the announcement of the last owner.
    """
    new_folder(folder)
    for _ in range(CLAIM_TRIES):
        if (lock := lock_file(folder / LOCK)) is not None:
            remove_announcement(folder)
            return lock
        # `is_locked` in another process holds a shared lock for a moment.
        time.sleep(CLAIM_PAUSE_S)
    return None


def announce(settings: Settings, folder: Path, *, owns_store: bool = False) -> None:
    """Writes the addresses of the stack to its claimed folder. `owns_store` says that Redis ends with the stack."""
    values = {name: value for name, value in values_by_name(settings).items() if name in (*BUS, *STORE, *HTTP)}
    values["store.url"] = without_password(values["store.url"])
    content = json.dumps({"pid": os.getpid(), "owns_store": owns_store, **values}, default=str)
    with atomic_write(folder / FILE, mode=0o600) as file:
        file.write(content.encode())


def remove_announcement(folder: Path) -> None:
    """Removes the announcement of the stack from its folder."""
    (folder / FILE).unlink(missing_ok=True)


def attach(settings: Settings) -> Settings:
    """Returns the settings with the signing key, and with the addresses of the running stack if they have none.

    Raises NotRunning if no stack runs, and BadSettings if the stack's Redis needs a password.
    """
    needs_store = not settings.store.url
    names = list(HTTP)
    if needs_store:
        names += STORE
    if not settings.bus.bootstrap_servers:
        names += BUS
    if len(names) == len(HTTP):
        return with_signing_key(settings, own_store=False)
    announced = read_announcement(settings.state_dir)
    if announced is None:
        raise NotRunning(
            f"no stack runs here (looked in {settings.state_dir}): start `lifelong up` in another terminal, or set "
            "LIFELONG_BUS__BOOTSTRAP_SERVERS and LIFELONG_STORE__URL to the servers of your service"
        )
    if needs_store and HIDDEN in announced["store.url"]:
        raise BadSettings(
            f"{environment_variable('store.url')}: is required for {announced['store.url']}, whose password the "
            "announcement of the stack leaves out. Set it to the address that `lifelong up` uses"
        )
    changes = {name: announced[name] for name in names}
    return with_signing_key(replaced(settings, changes), own_store=needs_store and announced["owns_store"])


def read_announcement(folder: Path) -> dict[str, Any] | None:
    """Returns the announcement in `folder`; None if there is none, or its owner has ended."""
    try:
        content: dict[str, Any] = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return None
    return content if is_locked(folder / LOCK) else None
