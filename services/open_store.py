"""Opens the store of a service, even if the service and its Redis do not run.

- `store.url` is set: that server.
- A stack runs on the state folder: the stack's Redis.
- Neither: the Redis of the state folder is started for the duration of the block. The folder stays locked, so that no
  stack starts meanwhile.
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
    """Yields the settings with the address of the store and the signing keys, and the store.

    Raises BadSettings, NoRedis, and NotRunning if a stack is starting or ending on the state folder.
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
    """Starts the Redis of the state folder for the duration of the block; yields as `opened_store`."""
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
