"""The Redis client: weights by digest, the lease to publish them, the rollout plan. Nothing else imports redis.

    Store -> blobs | lease | versions | plans | commands | reports | signatures | dump | collect
          -> server (Lua scripts) -> Redis

store       the door, which shows these parts            folder    copies of plan, versions and blobs in files
server      the connection                               keys      names every Redis key, and says who may write which
signed      signs and verifies records, and seals files  watch     waits for changes
plans       the plan, the decisions, the evidence        commands  the log of what operators ask for
signatures  signs anew after keys have rotated           dump      everything that a backup holds
collect     removes what no version needs

Other rooms import from here, and nothing from inside besides `signed`, and the parts that few processes need: `dump`
(backups), `folder` (replicas).
"""

from wire.store.blobs import Blobs
from wire.store.commands import CommandLog, Step, merged
from wire.store.keys import account_rules
from wire.store.lease import Lease, Leases
from wire.store.plans import Plans
from wire.store.signed import SEAL_CHARS, Seals
from wire.store.store import Store
from wire.store.versions import GAP, Contents, Versions
from wire.store.watch import Watch

__all__ = [
    "GAP",
    "SEAL_CHARS",
    "Blobs",
    "CommandLog",
    "Contents",
    "Lease",
    "Leases",
    "Plans",
    "Seals",
    "Step",
    "Store",
    "Versions",
    "Watch",
    "account_rules",
    "merged",
]
