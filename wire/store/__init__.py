"""The Redis client: weights by digest, the lease to publish them, the rollout plan. Nothing else imports redis.

    Store -> blobs | lease | versions | plans | erasures | labels | offers | reports | signatures | dump | collect
          -> server (Lua scripts) -> Redis

`store` is the door and shows these parts; `folder` has copies of some of them in files, `keys` names every Redis key,
`signed` signs and verifies records, `watch` waits for changes, `connecting` makes the clients. Other rooms use `Store`,
`FolderStore`, `Lease`, `Watch`, `Contents` and single parts from here.
"""

from wire.store.blobs import Blobs
from wire.store.commands import FOREIGN
from wire.store.dump import GAP, StoredKey, blobs_of, erasures_in, in_force_since, manifests
from wire.store.folder import FolderStore
from wire.store.lease import Lease, Leases
from wire.store.plans import Plans
from wire.store.signed import SEAL_CHARS, Seals
from wire.store.store import Store
from wire.store.versions import Contents, Versions
from wire.store.watch import Watch

__all__ = [
    "FOREIGN",
    "GAP",
    "SEAL_CHARS",
    "Blobs",
    "Contents",
    "FolderStore",
    "Lease",
    "Leases",
    "Plans",
    "Seals",
    "Store",
    "StoredKey",
    "Versions",
    "Watch",
    "blobs_of",
    "erasures_in",
    "in_force_since",
    "manifests",
]
