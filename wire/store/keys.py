"""The names of the store's Redis keys, and the accounts (ACL) that may read and write them.

single keys   plan, evidence, decisions, current, newest, epoch, versions, history, changes, blobs, commands, ...
one for each  manifest:<version>, blob:<digest>, lease:<name>, report:<replica>

These names are without the prefix of the environment, which `Server.key` adds.

There are two accounts: one for learner, rollout and commands, and one for replicas. A replica may read all keys under
the prefix, and may write only reports. So an attacker on one replica cannot change the weights or the plan of other
replicas. Both accounts need Redis 7 or newer, which supports read-only keys.
"""

from hashlib import sha256
from typing import Final

ASKED: Final = "asked"
"""A hash: digest of verb and body -> number, for the permanent commands."""
BLOB: Final = "blob"
"""A hash for each digest: the chunks of a blob."""
BLOBS: Final = "blobs"
"""A sorted set: the digests of all blobs, by the time at which each was last put or published."""
COMMAND: Final = "command"
"""The first part of the name under which an entry of `commands` is signed. The second part is the entry's number."""
COMMANDS: Final = "commands"
"""A sorted set: the operators' commands, each entry signed, by number."""
CONTROLLER: Final = "controller"
"""The report of the leading rollout controller."""
CURRENT: Final = "current"
"""The version from which the learner continues: a pointer, which a rollback sets back."""
DECISIONS: Final = "decisions"
"""A sorted set: the decisions about the plan, by time."""
DISK: Final = "disk"
"""A hash that `Server.sync` writes to before it waits for the disk."""
EPOCH: Final = "epoch"
"""The fencing token: the epoch of the last publication."""
EVIDENCE: Final = "evidence"
"""A hash: the signed evidence about the versions of the plan."""
HISTORY: Final = "history"
"""A list: the publications of the versions, newest first."""
JUDGED: Final = "judged"
"""A list: the last judged events, each sealed. It is written together with the evidence."""
LABEL: Final = "label"
"""The first part of the name under which an entry of `labels` is signed. The second part is the entry's number."""
LABELS: Final = "labels"
"""A list: the commands about labels, each signed, in order."""
LEARNER: Final = "learner"
"""The report of the leading learner."""
LEASE: Final = "lease"
"""A hash for each lease: its holder, its epoch and its expiry."""
MANIFEST: Final = "manifest"
"""A hash for each version: the signed manifest."""
NEWEST: Final = "newest"
"""The highest version number that was ever used."""
NOTICES: Final = "changes"
"""The counter of notices about publications and plans, and their channel. It has the older name "changes"."""
OFFER: Final = "offer"
"""A hash: the last offer of an encoder, signed, and whether it is closed."""
OUTCOMES: Final = "outcomes"
"""A hash: number of a command -> its outcome."""
PASSING: Final = "passing"
"""A list: the numbers of the commands that are not permanent, oldest first."""
PLAN: Final = "plan"
"""A hash: the signed rollout plan, and its revision."""
REPORT: Final = "report"
"""One report for each replica, with an expiry."""
REPORTS: Final = "reports"
"""A sorted set: the names of the replicas, by the time of their last report."""
VERSIONS: Final = "versions"
"""A sorted set: the versions that have a manifest."""

ALL: Final = frozenset(
    (
        ASKED,
        BLOB,
        BLOBS,
        COMMANDS,
        CONTROLLER,
        CURRENT,
        DECISIONS,
        DISK,
        EPOCH,
        EVIDENCE,
        HISTORY,
        JUDGED,
        LABELS,
        LEARNER,
        LEASE,
        MANIFEST,
        NEWEST,
        NOTICES,
        OFFER,
        OUTCOMES,
        PASSING,
        PLAN,
        REPORT,
        REPORTS,
        VERSIONS,
    )
)
"""The first part of the name of every key."""


WRITER = "service"
REPLICA = "replica"

_WRITER_RIGHTS = "+@all -@admin -@dangerous +info"
_REPLICA_RIGHTS = "+@read +@connection +@pubsub -@dangerous +info +set +zadd +zremrangebyrank"


def account_rules(writer_password: str, replica_password: str, prefix: str = "lifelong:") -> str:
    """Returns both accounts as lines of Redis's `aclfile`, with digests instead of the passwords.

    `prefix` is the setting `store.prefix`. The replica's account may write reports about every task.
    """
    keys = f"%R~{prefix}* ~{prefix}report:* ~{prefix}reports"
    keys_of_tasks = f"~{prefix}task:*:report:* ~{prefix}task:*:reports"
    channels = f"&{prefix}changes &{prefix}task:*:changes"
    return (
        f"user {WRITER} on #{_digest(writer_password)} ~{prefix}* &{prefix}* {_WRITER_RIGHTS}\n"
        f"user {REPLICA} on #{_digest(replica_password)} {keys} {keys_of_tasks} {channels} {_REPLICA_RIGHTS}\n"
    )


def _digest(password: str) -> str:
    return sha256(password.encode()).hexdigest()
