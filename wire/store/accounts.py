"""The accounts of Redis (its ACL): one for learner, rollout and commands, and one for replicas.

A replica reads everything below the prefix, and writes its own report alone. So whoever breaks into a replica can
change nothing that others serve. Both accounts need Redis 7 or newer, which knows keys that may only be read.
"""

from hashlib import sha256

WRITER = "service"
REPLICA = "replica"

_WRITER_RIGHTS = "+@all -@admin -@dangerous +info"
_REPLICA_RIGHTS = "+@read +@connection +@pubsub -@dangerous +info +set +zadd +zremrangebyrank"


def rules(writer_password: str, replica_password: str, prefix: str = "lifelong:") -> str:
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
