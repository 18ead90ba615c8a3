"""The Redis client: weights by digest, the lease to publish them, the rollout plan. No other package imports redis.

    Store -> blobs | lease | versions | plans | commands | reports | signatures | dump | collect
          -> server (Lua scripts) -> Redis

store       the entry point, which contains the parts     folder    copies of plan, versions and blobs in files
server      the connection                                keys      the Redis keys, and the accounts that may write them
signed      signs and verifies records, and seals files   watch     waits for changes
plans       the plan, the decisions, the evidence         commands  the log of operators' commands
signatures  re-signs records after a key rotation         dump      the contents of a backup
collect     removes versions and blobs that are unused

Other packages import these names. The only modules that they import directly are `signed`, and modules that few
processes need: `dump` (backups) and `folder` (replicas).
"""

from wire.store.blobs import Blobs
from wire.store.commands import CommandLog, OperatorStep, append_entries
from wire.store.keys import account_rules
from wire.store.lease import Lease, Leases
from wire.store.plans import Plans
from wire.store.signed import SEAL_CHARS, Seals
from wire.store.store import Store
from wire.store.versions import GAP, VersionContents, Versions
from wire.store.watch import Watch

__all__ = [
    "GAP",
    "SEAL_CHARS",
    "Blobs",
    "CommandLog",
    "Lease",
    "Leases",
    "OperatorStep",
    "Plans",
    "Seals",
    "Store",
    "VersionContents",
    "Versions",
    "Watch",
    "account_rules",
    "append_entries",
]
