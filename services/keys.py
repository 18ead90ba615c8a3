"""The key file with the signing keys: how it is generated and changed, and the secrets of containers.

    file --read_keys--> KeyRing --add_key, rotate_to, retire_key--> KeyRing --write_keys--> file
    reports of the running programs --programs_without, programs_signing_with--> programs that would fail
    write_secrets(folder) --> service/   signing.keys  store.password     for learner, rollout, page and commands
                              replicas/  signing.keys  store.password     public keys, the password of another account
                              redis/     users.acl                        both accounts, with digests of the passwords

All programs that share a Redis server need the same keys. So keys are generated only for a Redis server that ends with
us; for any other server the settings must name them. `wire/keyring.py` documents the kinds of keys.

**Rotation.** A rotation has three steps. Each is safe as soon as every program has the keys of the step before:

1. `add_key`: programs accept the new key.
2. `rotate_to`: the new key signs.
3. `retire_key`: programs no longer accept the old key.

Reports of the running programs say which keys they accept.

**Containers.** Each folder of secrets is a separate volume, so that a container sees only the secrets that it needs.
Existing secrets are kept. Only the replicas' public keys are written again, since a rotation changes them.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from services.local.folders import new_folder
from services.settings import MIN_KEY_CHARS, BadSettings, Settings, environment_variable, replaced
from wire.files import atomic_write
from wire.keyring import PAIRS, Key, KeyRing, Kind, follow_file, new_key, new_ring, parse
from wire.records import ReplicaReport
from wire.store import Store, account_rules

FILE = "signing.key"
REPLICA_FILE = "replica.keys"

KEYS = "signing.keys"

PASSWORD = "store.password"

ACCOUNTS = "users.acl"

PASSWORD_BYTES = 32

HEALTH_CHECK = "user default on nopass resetkeys resetchannels -@all +ping\n"
"""The account of clients that give no name: the health check of the container, which only sends PING."""


def with_signing_key(settings: Settings, *, own_store: bool) -> Settings:
    """Returns the settings with signing keys, generated if we own the store.

    Raises BadSettings if the settings name no keys, and the store is not ours.
    """
    if settings.signing_key is not None:
        return settings
    if not own_store:
        raise BadSettings(
            f"{environment_variable('signing_key')}: is required if store.url names a server. Give the keys that "
            "the other programs on this Redis server use, in this variable or in the file that "
            f"{environment_variable('signing_key')}_FILE names; `lifelong signing-keys new` makes the first keys"
        )
    path = settings.state_dir / FILE
    return replaced(settings, {"signing_key": SecretStr(_stored_keys(path))}).with_key_file(path)


def require_keys(settings: Settings, wanted: str) -> None:
    """Raises BadSettings if no keys are given and none are stored. `wanted` describes the keys in the message."""
    path = settings.state_dir / FILE
    if settings.signing_key is None and not path.exists():
        raise BadSettings(
            f"{environment_variable('signing_key')}_FILE: is required. Name {wanted}, or copy it to {path}"
        )


def key_ring(settings: Settings) -> KeyRing:
    """Returns the keys of the settings. If they come from a file, the key ring follows the changes of that file.

    The settings must have keys, for example from `with_signing_key`.
    """
    assert settings.signing_key is not None, "attach, or start a stack, first"
    ring = parse(settings.signing_key.get_secret_value())
    return ring if settings.key_file is None else follow_file(settings.key_file, ring)


class ReplicaKeys:
    """Writes the key file that the replicas of this machine follow. None of its keys signs weights or plans.

    There is such a file only if the keys of the service are in a file, too.
    """

    def __init__(self, settings: Settings) -> None:
        self._ring = key_ring(settings)
        self._path = settings.state_dir / REPLICA_FILE if settings.key_file else None
        self._written: tuple[Key, ...] = ()
        self._write()

    def follow(self) -> None:
        """Writes the file again if the keys of the service have changed. After an OSError the next call tries again."""
        if self._ring.keys is not self._written:
            with suppress(OSError):
                self._write()

    def _write(self) -> None:
        keys = self._ring.keys
        if self._path is not None:
            with atomic_write(self._path, mode=0o600) as file:
                file.write(self._ring.for_replicas().text.encode())
        self._written = keys

    def replica_settings(self, settings: Settings) -> Settings:
        """Returns `settings` with the keys of replicas."""
        public = replaced(settings, {"signing_key": SecretStr(self._ring.for_replicas().text)})
        return public.with_key_file(self._path) if self._path is not None else public


def _stored_keys(path: Path) -> str:
    """Returns the keys in the file `path`, which is generated if it does not exist.

    Raises BadSettings if the file holds no keys.
    """
    text = generated_once(path, lambda: new_ring().text)
    try:
        if len(text) < MIN_KEY_CHARS:
            raise ValueError(f"{len(text)} characters")
        parse(text)
    except ValueError as error:
        raise BadSettings(
            f"{path}: holds no keys ({error}). Restore it from a copy. Without a copy, nothing that was signed with "
            f"the lost keys can be read any more: remove {path} and {path.parent / 'redis'}, and start from scratch"
        ) from error
    return text


def generated_once(path: Path, generate: Callable[[], str]) -> str:
    """Returns the content of the file `path`. If it does not exist, it is written with the result of `generate`.

    The file is readable only by its owner, is written atomically, and is on disk when this returns.
    """
    if not path.exists():
        new_folder(path.parent)
        # Another process may create the file meanwhile. Then its content counts.
        with suppress(FileExistsError), atomic_write(path, mode=0o600, is_synced=True, may_replace=False) as file:
            file.write(generate().encode())
    return path.read_text()


class KeysUnfit(RuntimeError):
    """The keys cannot be changed in this way. The message says what is wrong, and the fix."""


def read_keys(path: Path) -> KeyRing | None:
    """Returns the keys in a file; None if there is no file. Raises KeysUnfit if the file cannot be read."""
    try:
        return parse(path.read_text().rstrip("\r\n"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise KeysUnfit(f"{path}: cannot be read as keys ({error}). Restore it from a copy") from error


def write_keys(path: Path, ring: KeyRing) -> None:
    """Replaces the key file, which only its owner may read. It is on disk when this returns."""
    new_folder(path.parent)
    with atomic_write(path, mode=0o600, is_synced=True) as file:
        file.write(ring.text.encode())


def add_key(ring: KeyRing | None, kind: Kind) -> KeyRing:
    """Returns the keys with a new key at the end, which programs accept but do not use yet.

    If `ring` is None, returns the keys of a new service.

    Earlier releases used a shared secret also for receipts and for the names of erased subjects. If these secrets are
    missing, they are added: a new one for receipts, and the shared secret's own one for subjects, so that the names
    stay the same.
    """
    if ring is None:
        return new_ring()
    keys = [*ring.keys, new_key(kind)]
    kinds = {key.kind for key in keys}
    if Kind.RECEIPT not in kinds:
        keys.append(new_key(Kind.RECEIPT))
    if Kind.SUBJECT not in kinds and ring.signer is not None:
        keys.append(Key(Kind.SUBJECT, ring.subject))
    return KeyRing(tuple(keys))


def rotate_to(ring: KeyRing, key: Key) -> KeyRing:
    """Returns the keys with `key` at the front: the first key signs, or makes receipts.

    A shared secret moves to the end, so that the secret for receipts makes them.
    """
    others = [other for other in ring.keys if other != key]
    # A key that was only accepted so far becomes a key that signs.
    key = Key(Kind.SECRET, key.value) if key.kind is Kind.NEXT else key
    return KeyRing((key, *sorted(others, key=lambda other: other.kind is Kind.SHARED)))


def retire_key(ring: KeyRing, key: Key) -> KeyRing:
    """Returns the keys without `key`. Its public key stays, marked as retired, so that errors can name it."""
    left = [other for other in ring.keys if other != key]
    if key.kind in PAIRS:
        left.append(key.of_kind(Kind.RETIRED))
    elif key.kind is Kind.SHARED and not ring.of(Kind.SUBJECT):
        left.append(Key(Kind.SUBJECT, ring.subject))
    return KeyRing(tuple(left))


def find_key(ring: KeyRing, identity: str) -> Key:
    """Returns the key with this id. Raises KeysUnfit, which lists the known ids, if there is none."""
    for key in ring.keys:
        if key.id == identity and key.kind is not Kind.RETIRED:
            return key
    raise KeysUnfit(f"{identity}: is not one of our keys. There are {', '.join(key.id for key in ring.keys)}")


def next_signer(ring: KeyRing) -> Key:
    """Returns the key that signs after a rotation: the newest key that has not signed yet, or else the present signer.

    Raises KeysUnfit if there is no Ed25519 key.
    """
    if found := ring.of(Kind.NEXT) or ring.of(Kind.SECRET)[:1]:
        return found[-1]
    raise KeysUnfit("there is no Ed25519 key that could sign: `lifelong signing-keys new` makes one")


def programs_without(store: Store, key: Key) -> Iterator[str]:
    """Yields the names of the running programs that do not accept `key`: they would refuse records that it signs."""
    for name, report in store.reports.programs().items():
        if key.id not in report.keys:
            yield name


def programs_signing_with(store: Store, key: Key) -> Iterator[str]:
    """Yields the names of the running programs that sign with `key`."""
    for name, report in store.reports.programs().items():
        if not isinstance(report, ReplicaReport) and report.keys[:1] == (key.id,):
            yield name


def is_used(ring: KeyRing, key: Key) -> bool:
    """Returns whether `key` signs, makes receipts, or names erased subjects."""
    return key == ring.signer or key.value == ring.receipts[0] or key.kind is Kind.SUBJECT


def write_secrets(folder: Path, prefix: str) -> list[Path]:
    """Writes the missing secrets below `folder`, and the replicas' keys; returns the paths of all secrets.

    `prefix` is `store.prefix`. Raises KeysUnfit if an existing key file cannot be read, and OSError.
    """
    service = folder / "service"
    replicas = folder / "replicas"
    redis = folder / "redis"
    for subfolder in (service, replicas, redis):
        new_folder(subfolder)
    ring = read_keys(service / KEYS)
    if ring is None:
        ring = add_key(None, Kind.NEXT)
        write_keys(service / KEYS, ring)
    # A rotation changes the public keys, so they are always written again.
    write_keys(replicas / KEYS, ring.for_replicas())
    writer = generated_once(service / PASSWORD, _new_password)
    replica = generated_once(replicas / PASSWORD, _new_password)
    users = redis / ACCOUNTS
    with atomic_write(users, is_synced=True) as file:
        file.write((HEALTH_CHECK + account_rules(writer, replica, prefix)).encode())
    # Redis runs as another user. The file holds only digests of the passwords.
    redis.chmod(0o755)
    users.chmod(0o644)
    return [service / KEYS, service / PASSWORD, replicas / KEYS, replicas / PASSWORD, users]


def secrets_environment(prefix: str) -> tuple[Mapping[str, str], str]:
    """Returns new secrets by the name of their environment variable, and the accounts for Redis."""
    ring = add_key(None, Kind.NEXT)
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
