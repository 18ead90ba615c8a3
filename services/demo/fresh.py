"""The settings of a service that has learnt nothing, in a folder and under prefixes of its own, which go in the end.

    settings --fresh--> those of a run in STATE_DIR/demo-..., until its end --> the folder, its topics and keys are gone
    settings of a run --note_servers--> STATE_DIR/demo-.../servers.json --remove_from_servers--> nothing is left, or why
    folders of killed runs --remove_abandoned--> both, once more

On a broker or a Redis that is not the demo's own, a run has topics, a consumer group and keys under a prefix that no
other run has. The folder of a run stays with its note until they are gone. A note has no password, so servers are
reached as the settings say: what lies on others is told, and stays.
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
"""Prefix of the state folders of demos, inside of the state folder."""

FILE = "servers.json"
"""Name of the note, in the folder of a run."""

WAIT_MS = 5_000
"""How long a broker may take to answer."""


@contextmanager
def fresh(settings: Settings, *, say: Callable[[str], None] = print) -> Iterator[Settings]:
    """Yields settings under which nothing was learnt yet; removes their state folder, topics and keys in the end.

    The logs of a run that failed are retained. The next run removes everything of a run that was killed, and what could
    not be removed from servers, which is said.

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
        tell(left, say)


def _clear(folder: Path, *, keep: Collection[str]) -> None:
    """Removes the folder; where anything is to be kept, all else in it."""
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
    """The addresses of the servers of a run that are not its own (empty: its own), and what names its things there."""

    brokers: str
    bus_prefix: str
    group: str
    store: str
    store_prefix: str
    tasks: tuple[str, ...]


def note_servers(settings: Settings) -> None:
    """Notes in the state folder of a run which servers of others it will use, if any."""
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
    """Removes what the run of `folder` has on servers of others; returns what is left, and why.

    `settings` say how these servers are reached. Nothing is there where no stack has ever claimed the folder.
    """
    try:
        used = msgspec.json.decode((folder / FILE).read_bytes(), type=UsedServers)
    except (FileNotFoundError, msgspec.DecodeError):
        return []
    return list(_left(used, settings)) if (folder / LOCK).exists() else []


def remove_abandoned(settings: Settings, *, say: Callable[[str], None]) -> bool:
    """Removes what demos have left that were killed, or could not: their folders, and what they have on servers.

    Returns whether nothing is left of them, and says what is. A folder stays until nothing is left on servers.
    """
    is_clear = True
    for folder in sorted(settings.state_dir.glob(f"{DEMO}*")):
        if (folder / LOCK).exists() and (lock := claim(folder)) is not None:
            with closing(lock):
                left = remove_from_servers(folder, settings)
                if not left:
                    shutil.rmtree(folder, ignore_errors=True)
            tell(left, say)
            is_clear = is_clear and not left
    return is_clear


def tell(left: list[str], say: Callable[[str], None]) -> None:
    """Says what a run has left on servers, and the command that removes it."""
    for text in left:
        say(f"{text}. `lifelong demo --clear` removes it, with settings that reach this server and may remove it")


def _left(used: UsedServers, settings: Settings) -> Iterator[str]:
    """Removes what is reached; yields what is left."""
    on_bus = f"A demo has left the topics {used.bus_prefix}* and a consumer group on Kafka at {used.brokers}"
    on_store = f"A demo has left the keys {used.store_prefix}* on Redis at {used.store}"
    if used.brokers and used.brokers != settings.bus.bootstrap_servers:
        yield f"{on_bus}, where bus.bootstrap_servers does not lead"
    elif used.brokers:
        with closing(Bus(replace(settings.bus, prefix=used.bus_prefix), client_id="demo")) as bus:
            try:
                bus.remove_topics(used.group, wait_ms=WAIT_MS)
            except WireError as error:
                yield f"{on_bus}: {error}"
    if used.store and used.store != without_password(settings.store.url):
        yield f"{on_store}, where store.url does not lead"
    elif used.store:
        try:
            for task in used.tasks:
                config = replace(settings.store, prefix=used.store_prefix)
                with closing(Store(config, KeyRing(()), task=task)) as store:
                    store.dump.clear()
        except WireError as error:
            yield f"{on_store}: {error}"
