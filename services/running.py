"""Where the stack that runs on this machine can be reached: one small file in the state folder.

    up, demo --write--> STATE_DIR/stack.json --read--> predict, feedback, versions, rollout

The file names the process that owns it. A file whose process is gone is as good as none.
"""

import json
import os
from pathlib import Path
from typing import Any

import psutil

from services.keys import with_signing_key
from services.settings import Settings, replaced, values_of

FILE = "stack.json"
BUS = ("bus.bootstrap_servers", "bus.prefix")
STORE = ("store.url", "store.prefix", "state_dir")
HTTP = ("serving.http_host", "serving.http_port")


class NotRunning(RuntimeError):
    """No stack runs here and no address is set."""


def announce(settings: Settings, folder: Path) -> None:
    """Writes to `folder` where this process's stack can be reached."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = psutil.Process()
    values = {name: value for name, value in values_of(settings).items() if name in (*BUS, *STORE, *HTTP)}
    content = {"pid": owner.pid, "started": owner.create_time(), **values}
    draft = folder / f"{FILE}.{owner.pid}"
    draft.write_text(json.dumps(content, default=str))
    os.replace(draft, folder / FILE)


def withdraw(folder: Path) -> None:
    """Removes what `announce` wrote."""
    (folder / FILE).unlink(missing_ok=True)


def attach(settings: Settings) -> Settings:
    """The settings with the addresses of the running stack where none is set, and its signing key.

    Raises NotRunning.
    """
    own_store = not settings.store.url
    wanted = (*HTTP, *(STORE if own_store else ()), *(() if settings.bus.bootstrap_servers else BUS))
    if len(wanted) > len(HTTP):
        found = read(settings.state_dir)
        if found is None:
            raise NotRunning(
                f"no stack runs here (looked in {settings.state_dir}): start `lifelong up` in another terminal, or set "
                "LIFELONG_BUS__BOOTSTRAP_SERVERS and LIFELONG_STORE__URL to the servers that yours uses"
            )
        changes = {name: found[name] for name in wanted}
        settings = replaced(settings, {name: Path(v) if name == "state_dir" else v for name, v in changes.items()})
    return with_signing_key(settings, own_store=own_store)


def read(folder: Path) -> dict[str, Any] | None:
    """What the file in `folder` says, while the process that wrote it lives."""
    try:
        content: dict[str, Any] = json.loads((folder / FILE).read_text())
        alive = psutil.Process(content["pid"]).create_time() == content["started"]
    except (OSError, ValueError, KeyError, psutil.Error):
        return None
    return content if alive else None
