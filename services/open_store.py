"""Opens the store of a service that runs, or, where its Redis ends with it and it does not run, on that Redis alone.

store.url is set -> that server | a stack runs here -> its Redis | neither -> the Redis of the state folder, started
for as long as it is needed, under the lock of the folder, so that no stack begins meanwhile
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from services.keys import with_signing_key
from services.local.redis import start_redis
from services.programs import open_store
from services.running import NotRunning, attach, claim
from services.settings import Settings, replaced
from wire.store import Store


@contextmanager
def opened_store(settings: Settings) -> Iterator[tuple[Settings, Store]]:
    """Yields the settings with the address of the store and its keys, and the store.

    Raises NotRunning where another program is about to start on the state folder, BadSettings, NoRedis.
    """
    if settings.store.url:
        settings = with_signing_key(settings, own_store=False)
    else:
        try:
            settings = attach(settings)
        except NotRunning:
            with own_store(settings) as found:
                yield found
            return
    with closing(open_store(settings)) as store:
        yield settings, store


@contextmanager
def own_store(settings: Settings) -> Iterator[tuple[Settings, Store]]:
    """Yields the settings with the address of the state folder's Redis, which runs until the end, and the store."""
    lock = claim(settings.state_dir)
    if lock is None:
        raise NotRunning(f"a stack starts or ends in {settings.state_dir}: try again in a minute")
    with closing(lock):
        server = start_redis(settings.state_dir / "redis")
        try:
            found = with_signing_key(replaced(settings, {"store.url": server.url}), own_store=True)
            with closing(open_store(found)) as store:
                yield found, store
        finally:
            server.stop()
