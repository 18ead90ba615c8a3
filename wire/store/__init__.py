"""The Redis client: weights by digest, the lease to publish them, the rollout plan. Nothing else imports redis.

    Store -> blobs | lease | versions | plans | erasures | reports | collect -> server (commands, Lua scripts) -> Redis

`store` is the door; `keys` names every Redis key, `signed` signs and verifies records, `watch` waits for changes. Other
rooms use `Store`, `Lease`, `Watch` and `Contents` from here.
"""

from wire.store.collect import Contents
from wire.store.lease import Lease
from wire.store.store import Store
from wire.store.watch import Watch

__all__ = ["Contents", "Lease", "Store", "Watch"]
