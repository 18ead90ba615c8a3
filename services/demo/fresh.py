"""The settings of an untrained service with its own folder, topics and keys, which are removed after the run.

    settings --fresh--> settings of a run in STATE_DIR/demo-... --its end--> the folder, its topics and keys are removed
    settings of a run --note_servers--> STATE_DIR/demo-.../servers.json --remove_from_servers--> nothing left, or why
    folders of killed runs --remove_abandoned--> both are removed

On a broker or a Redis that the demo has not started, a run has topics, a consumer group and keys under a unique prefix.
The folder of the run keeps a note of these servers until everything is removed from them. A note has no password, so
only servers that the present settings name can be cleaned up. For other servers, a message says what is left.
"""

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from learner.errors import DataError
from services.local.folders import new_folder
from services.local.stack import LOGS
from services.running import LOCK, claim
from services.settings import Settings, replaced
from wire.bus import Bus
from wire.errors import WireError
from wire.files import atomic_write
from wire.keyring import KeyRing
from wire.logs import without_password
from wire.store import Store
from wire.timestamps import now_ms

DEMO = "demo-"
"""Prefix of the state folders of demos, within the state folder."""

FILE = "servers.json"
"""Name of the note, in the folder of a run."""

WAIT_MS = 5_000
"""How long the broker may take to answer."""


@contextmanager
def fresh(settings: Settings, *, say: Callable[[str], None] = print) -> Iterator[Settings]:
    """Yields the settings of an untrained service; removes its state folder, topics and keys after the block.

    The logs of a failed run are kept. If a run was killed, or its topics and keys could not be removed, the next run
    removes them. `say` prints what is left.

    Test items are events without a label, so the learner must not learn from unlabelled events here.
    """
    remove_abandoned(settings, say=say)
    run = f"{DEMO}{now_ms():x}"
    folder = settings.state_dir / run
    changes = {
        "state_dir": folder,
        "serving.spool_dir": str(folder / "spool"),
        "learner.state_dir": str(folder / "learner"),
        "learner.checkpoint_url": "",
        "learner.learn_unlabelled": False,
        "bus.prefix": f"{settings.bus.prefix}{run}.",
        "store.prefix": f"{settings.store.prefix}{run}:",
    }
    own = replaced(settings, changes)
    note_servers(own)
    # The logs are kept, unless the run succeeds, is interrupted, or fails by an error of its input.
    kept = {LOGS}
    try:
        yield own
        kept = set()
    except (KeyboardInterrupt, DataError):
        kept = set()
        raise
    finally:
        left = remove_from_servers(folder, own)
        _clear(folder, keep=kept | {LOCK, FILE} if left else kept)
        warn_left(left, say)


def _clear(folder: Path, *, keep: Collection[str]) -> None:
    """Removes the folder, or, if `keep` names files or folders in it, everything else in the folder."""
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.glob("*"):
        if path.name in keep:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class UsedServers(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses of servers that a run has not started (empty: it has), and the names of its data on them."""

    brokers: str
    bus_prefix: str
    group: str
    store: str
    store_prefix: str
    tasks: tuple[str, ...]


def note_servers(settings: Settings) -> None:
    """Writes a note to the state folder of a run about the servers that it uses and has not started, if any."""
    bus = settings.bus
    store = settings.store
    if not bus.bootstrap_servers and not store.url:
        return
    used = UsedServers(
        brokers=bus.bootstrap_servers,
        bus_prefix=bus.prefix,
        group=settings.serving.group,
        store=without_password(store.url),
        store_prefix=store.prefix,
        tasks=tuple(settings.readers.all),
    )
    with atomic_write(new_folder(settings.state_dir) / FILE, mode=0o600) as file:
        file.write(msgspec.json.encode(used))


def remove_from_servers(folder: Path, settings: Settings) -> list[str]:
    """Removes the data of the run of `folder` from servers that it has not started; returns what is left, and why.

    `settings` have the addresses and passwords of the servers.
    """
    try:
        used = msgspec.json.decode((folder / FILE).read_bytes(), type=UsedServers)
    except (FileNotFoundError, msgspec.DecodeError):
        return []
    # Without a lock file, no stack was ever started in the folder, so there is no data on servers.
    return list(_remove(used, settings)) if (folder / LOCK).exists() else []


def remove_abandoned(settings: Settings, *, say: Callable[[str], None]) -> bool:
    """Removes the folders of earlier demos that have ended, and their data on servers.

    Returns whether everything was removed, and prints what is left. A folder stays until its data on servers is gone.
    """
    is_clear = True
    for folder in sorted(settings.state_dir.glob(f"{DEMO}*")):
        if (folder / LOCK).exists() and (lock := claim(folder)) is not None:
            with closing(lock):
                left = remove_from_servers(folder, settings)
                if not left:
                    shutil.rmtree(folder, ignore_errors=True)
            warn_left(left, say)
            is_clear = is_clear and not left
    return is_clear


def warn_left(left: list[str], say: Callable[[str], None]) -> None:
    """Prints what a run has left on servers, and the command that removes it."""
    for text in left:
        say(f"{text}. `lifelong demo --clear` removes it, with settings that reach this server and have the right to")


def _remove(used: UsedServers, settings: Settings) -> Iterator[str]:
    """Removes the data of a run from the servers; yields a sentence for each server on which data is left."""
    on_bus = f"A demo has left the topics {used.bus_prefix}* and a consumer group on Kafka at {used.brokers}"
    on_store = f"A demo has left the keys {used.store_prefix}* on Redis at {used.store}"
    if used.brokers and used.brokers != settings.bus.bootstrap_servers:
        yield f"{on_bus}, which bus.bootstrap_servers does not name"
    elif used.brokers:
        with closing(Bus(replace(settings.bus, prefix=used.bus_prefix), client_id="demo")) as bus:
            try:
                bus.remove_topics(used.group, wait_ms=WAIT_MS)
            except WireError as error:
                yield f"{on_bus}: {error}"
    if used.store and used.store != without_password(settings.store.url):
        yield f"{on_store}, which store.url does not name"
    elif used.store:
        try:
            for task in used.tasks:
                config = replace(settings.store, prefix=used.store_prefix)
                with closing(Store(config, KeyRing(()), task=task)) as store:
                    store.dump.clear()
        except WireError as error:
            yield f"{on_store}: {error}"
