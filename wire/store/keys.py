"""The Redis keys of the store, each named once, and the accounts (ACL) that may read and write them.

one key      plan, evidence, decisions, current, newest, epoch, versions, history, changes, blobs, commands, ...
a key each   manifest:<version>, blob:<digest>, lease:<name>, report:<replica>

The names here are without the prefix of the environment (`Server.key` puts it before).

There is one account for learner, rollout and commands, and one for replicas. A replica reads everything below the
prefix, and writes its own report alone. So whoever breaks into a replica can change nothing that others serve. Both
accounts need Redis 7 or newer, which knows keys that may only be read.
"""

from hashlib import sha256
from typing import Final

ASKED: Final = "asked"
"""A hash: the numbers of the commands that are kept, by the digest of what each asks for."""
BLOB: Final = "blob"
"""A hash for each digest: the chunks of a blob."""
BLOBS: Final = "blobs"
"""A sorted set: the digests of all blobs, by when each was last put or published."""
COMMAND: Final = "command"
"""What the name of a signed entry of `commands` begins with; its number follows."""
COMMANDS: Final = "commands"
"""A sorted set: what operators ask for, each entry signed, by number."""
CONTROLLER: Final = "controller"
"""The report of the rollout controller that leads."""
CURRENT: Final = "current"
"""The version to learn on from: the pointer that a rollback sets back."""
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
"""A list: the events that were judged last, each signed, beside the evidence."""
LABEL: Final = "label"
"""What the name of a signed entry of `labels` begins with; its number follows."""
LABELS: Final = "labels"
"""A list: the commands about labels, each signed, in their order."""
LEARNER: Final = "learner"
"""The report of the learner that leads."""
LEASE: Final = "lease"
"""A hash for each lease: its holder, its epoch and its end."""
MANIFEST: Final = "manifest"
"""A hash for each version: the signed manifest."""
NEWEST: Final = "newest"
"""The highest number that any version ever had."""
NOTICES: Final = "changes"
"""The counter of notices about publications and plans, and their channel. Its key has an older name."""
OFFER: Final = "offer"
"""A hash: the signed offer of an encoder that was made last, and whether it is closed."""
OUTCOMES: Final = "outcomes"
"""A hash: what became of each command, by its number."""
PASSING: Final = "passing"
"""A list: the numbers of the commands that go one day, the oldest first."""
PLAN: Final = "plan"
"""A hash: the signed rollout plan, and its revision."""
REPORT: Final = "report"
"""A record for each replica, with an expiry."""
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
    """Returns both accounts as lines of Redis's `aclfile`, with digests in place of the passwords.

    `prefix` is `store.prefix`. The replica's account covers its reports about every task.
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
