"""The secrets of a service in containers: keys that sign, and the accounts of its Redis.

    write(folder) --> service/   signing.keys  store.password     for learner, rollout, page and commands
                      replicas/  signing.keys  store.password     public keys, and the password of their own account
                      redis/     users.acl                        both accounts, with digests of the passwords
    environment() --> the same as lines NAME=VALUE                for a Secret of Kubernetes

Each folder is a volume of its own, so that a container sees the secrets it needs and no others. What exists is kept:
only the replicas' public keys are written again, since a rotation changes them.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path

from services import signing_keys
from services.keys import generated_once
from services.local.folders import new_folder
from wire.files import atomic_write
from wire.keyring import Kind
from wire.store import account_rules

KEYS = "signing.keys"
PASSWORD = "store.password"
ACCOUNTS = "users.acl"

PASSWORD_BYTES = 32

HEALTH_CHECK = "user default on nopass resetkeys resetchannels -@all +ping\n"
"""The account of whoever gives no name: the health check of the container, which asks whether Redis answers."""


def write(folder: Path, prefix: str) -> list[Path]:
    """Writes the secrets that are missing below `folder`, and the replicas' keys; returns all files.

    `prefix` is `store.prefix`. Raises KeysUnfit if the file of keys that exists cannot be read, and OSError.
    """
    service, replicas, redis = (folder / name for name in ("service", "replicas", "redis"))
    for each in (service, replicas, redis):
        new_folder(each)
    ring = signing_keys.read(service / KEYS)
    if ring is None:
        ring = signing_keys.added(None, Kind.NEXT)
        signing_keys.write(service / KEYS, ring)
    signing_keys.write(replicas / KEYS, ring.for_replicas())

    writer = generated_once(service / PASSWORD, _new_password)
    replica = generated_once(replicas / PASSWORD, _new_password)
    users = redis / ACCOUNTS
    with atomic_write(users, is_synced=True) as file:
        file.write((HEALTH_CHECK + account_rules(writer, replica, prefix)).encode())
    # Redis runs under another user than ours, and the file holds no password.
    redis.chmod(0o755)
    users.chmod(0o644)
    return [service / KEYS, service / PASSWORD, replicas / KEYS, replicas / PASSWORD, users]


def environment(prefix: str) -> tuple[Mapping[str, str], str]:
    """Returns new secrets by the name of their variable, and the accounts to give to Redis."""
    ring = signing_keys.added(None, Kind.NEXT)
    writer = _new_password()
    replica = _new_password()
    values = {
        "LIFELONG_SIGNING_KEY": _in_one_line(ring.text),
        "LIFELONG_STORE__PASSWORD": writer,
        "REPLICA_KEYS": _in_one_line(ring.for_replicas().text),
        "REPLICA_STORE_PASSWORD": replica,
    }
    return values, account_rules(writer, replica, prefix)


def _in_one_line(text: str) -> str:
    return text.rstrip("\n").replace("\n", ",")


def _new_password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)
