"""The file of keys that sign: given by the settings, or generated once for a local Redis; how it is changed, and the
same for containers.

    file --read_keys--> KeyRing --added, rotated, retired--> KeyRing --write_keys--> file     `lifelong signing-keys`
    reports of the programs that run --unready--> those that would refuse, or go on signing with, a key
    write_secrets(folder) --> service/   signing.keys  store.password     for learner, rollout, page and commands
                              replicas/  signing.keys  store.password     public keys, a password of their own account
                              redis/     users.acl                        both accounts, with digests of the passwords

All programs that share a Redis server need keys of one installation, so they are generated only for a server that ends
with us. What a key is and does says `wire/keyring/`.

A rotation has three steps, and each is safe to take when every program has the keys of the step before: a new key is
accepted (`added`), signs (`rotated`), and the old one is accepted no more (`retired`). What the programs that run
accept is in their reports.

Each folder of secrets is a volume of its own, so that a container sees the secrets it needs and no others. What exists
is kept: only the replicas' public keys are written again, since a rotation changes them.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from services.local.folders import new_folder
from services.settings import MIN_KEY_CHARS, BadSettings, Settings, replaced, variable_of
from wire.files import atomic_write
from wire.keyring import PAIRS, Key, KeyRing, Kind, followed, new_key, new_ring, parse
from wire.records import ReplicaReport
from wire.store import Store, account_rules

FILE = "signing.key"
REPLICA_FILE = "replica.keys"

KEYS = "signing.keys"

PASSWORD = "store.password"

ACCOUNTS = "users.acl"

PASSWORD_BYTES = 32

HEALTH_CHECK = "user default on nopass resetkeys resetchannels -@all +ping\n"
"""The account of whoever gives no name: the health check of the container, which asks whether Redis answers."""


def with_signing_key(settings: Settings, *, own_store: bool) -> Settings:
    """Returns the settings with keys. Raises BadSettings where they must be given and are not."""
    if settings.signing_key is not None:
        return settings
    if not own_store:
        raise BadSettings(
            f"{variable_of('signing_key')}: is required where store.url names a server. Give the keys that the other "
            "programs on this Redis server use, in this variable or in the file that "
            f"{variable_of('signing_key')}_FILE names; `lifelong signing-keys new` makes the first"
        )
    path = settings.state_dir / FILE
    return replaced(settings, {"signing_key": SecretStr(_stored_keys(path))}).with_key_file(path)


def require_keys(settings: Settings, wanted: str) -> None:
    """Raises BadSettings, which names the `wanted`, where no keys are given and none are stored: none are made."""
    path = settings.state_dir / FILE
    if settings.signing_key is None and not path.exists():
        raise BadSettings(f"{variable_of('signing_key')}_FILE: is required. Name {wanted}, or copy it to {path}")


def ring_of(settings: Settings) -> KeyRing:
    """Returns the keys of settings that have them: those of `with_signing_key`, and those of their file from now on."""
    assert settings.signing_key is not None, "attach, or start a stack, first"
    ring = parse(settings.signing_key.get_secret_value())
    return ring if settings.key_file is None else followed(settings.key_file, ring)


class ReplicaKeys:
    """Keeps the file of the keys that replicas of this machine follow, none of which signs weights or plans.

    There is one where the keys of the service are in a file, too.
    """

    def __init__(self, settings: Settings) -> None:
        self._ring = ring_of(settings)
        self._path = settings.state_dir / REPLICA_FILE if settings.key_file else None
        self._written: tuple[Key, ...] = ()
        self._write()

    def follow(self) -> None:
        """Writes the file anew where the keys of the service have changed; again later, where the disk is full."""
        if self._ring.keys is not self._written:
            with suppress(OSError):
                self._write()

    def _write(self) -> None:
        keys = self._ring.keys
        if self._path is not None:
            with atomic_write(self._path, mode=0o600) as file:
                file.write(self._ring.for_replicas().text.encode())
        self._written = keys

    def given_to(self, settings: Settings) -> Settings:
        """Returns the settings of replicas."""
        public = replaced(settings, {"signing_key": SecretStr(self._ring.for_replicas().text)})
        return public.with_key_file(self._path) if self._path is not None else public


def _stored_keys(path: Path) -> str:
    """Returns what is in `path`, generated where there is none. Raises BadSettings where the file holds no keys."""
    text = generated_once(path, lambda: new_ring().text)
    try:
        if len(text) < MIN_KEY_CHARS:
            raise ValueError(f"{len(text)} characters")
        parse(text)
    except ValueError as error:
        raise BadSettings(
            f"{path}: holds no keys ({error}). Restore it from a copy. Where there is none, nothing that was signed "
            f"with them can be read any more: remove it and {path.parent / 'redis'}, and begin anew"
        ) from error
    return text


def generated_once(path: Path, generate: Callable[[], str]) -> str:
    """Returns what `path` holds; where there is no such file, it gets what `generate` returns.

    The file is readable only by its owner, written atomically, and on disk before anybody uses what it holds.
    """
    if not path.exists():
        new_folder(path.parent)
        with suppress(FileExistsError), atomic_write(path, mode=0o600, is_synced=True, may_replace=False) as file:
            file.write(generate().encode())
    return path.read_text()


class KeysUnfit(RuntimeError):
    """The keys cannot be changed so: what is wrong, and the fix."""


def read_keys(path: Path) -> KeyRing | None:
    """Returns the keys in a file; None where there is no file. Raises KeysUnfit where it cannot be read."""
    try:
        return parse(path.read_text().rstrip("\r\n"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise KeysUnfit(f"{path}: cannot be read as keys ({error}). Restore it from a copy") from error


def write_keys(path: Path, ring: KeyRing) -> None:
    """Replaces the file, which only its owner may read. It is on disk when this returns."""
    new_folder(path.parent)
    with atomic_write(path, mode=0o600, is_synced=True) as file:
        file.write(ring.text.encode())


def added(ring: KeyRing | None, kind: Kind) -> KeyRing:
    """Returns the keys with a new one behind the others, which is accepted and not used; or those of a new service.

    A shared secret of an earlier release gets beside it what it stood for: a secret of receipts, and the one that names
    erased subjects, which stays the same.
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


def rotated(ring: KeyRing, key: Key) -> KeyRing:
    """Returns the keys with this one before the others: it signs, or makes receipts.

    A shared secret goes behind all others: it makes receipts as well, and there is a secret for them alone.
    """
    others = [each for each in ring.keys if each != key]
    key = Key(Kind.SECRET, key.value) if key.kind is Kind.NEXT else key
    return KeyRing((key, *sorted(others, key=lambda each: each.kind is Kind.SHARED)))


def retired(ring: KeyRing, key: Key) -> KeyRing:
    """Returns the keys without this one. A public key stays, marked, so that what it signed is refused by its name."""
    left = [each for each in ring.keys if each != key]
    if key.kind in PAIRS:
        left.append(key.of_kind(Kind.RETIRED))
    elif key.kind is Kind.SHARED and not ring.of(Kind.SUBJECT):
        left.append(Key(Kind.SUBJECT, ring.subject))
    return KeyRing(tuple(left))


def found(ring: KeyRing, identity: str) -> Key:
    """Returns the key of this id. Raises KeysUnfit, which names the ids that there are."""
    for key in ring.keys:
        if key.id == identity and key.kind is not Kind.RETIRED:
            return key
    raise KeysUnfit(f"{identity}: is no key of ours. There are {', '.join(key.id for key in ring.keys)}")


def newest(ring: KeyRing) -> Key:
    """Returns the key that signs after a rotation: the newest that has not signed yet, or else the one that signs.

    Raises KeysUnfit where there is none, or a shared secret alone.
    """
    if found := ring.of(Kind.NEXT) or ring.of(Kind.SECRET)[:1]:
        return found[-1]
    raise KeysUnfit("there is no Ed25519 key that could sign: `lifelong signing-keys new` makes one")


def unready(store: Store, key: Key) -> Iterator[str]:
    """Yields the programs that run and do not accept a key: they would refuse what it signs."""
    for name, report in store.reports.programs().items():
        if key.id not in report.keys:
            yield name


def signing_with(store: Store, key: Key) -> Iterator[str]:
    """Yields the programs that run and sign with a key."""
    for name, report in store.reports.programs().items():
        if not isinstance(report, ReplicaReport) and report.keys[:1] == (key.id,):
            yield name


def is_used(ring: KeyRing, key: Key) -> bool:
    """Whether this key signs, makes receipts, or names subjects."""
    return key == ring.signer or key.value == ring.receipts[0] or key.kind is Kind.SUBJECT


def write_secrets(folder: Path, prefix: str) -> list[Path]:
    """Writes the secrets that are missing below `folder`, and the replicas' keys; returns all files.

    `prefix` is `store.prefix`. Raises KeysUnfit if the file of keys that exists cannot be read, and OSError.
    """
    service, replicas, redis = (folder / name for name in ("service", "replicas", "redis"))
    for each in (service, replicas, redis):
        new_folder(each)
    ring = read_keys(service / KEYS)
    if ring is None:
        ring = added(None, Kind.NEXT)
        write_keys(service / KEYS, ring)
    write_keys(replicas / KEYS, ring.for_replicas())

    writer = generated_once(service / PASSWORD, _new_password)
    replica = generated_once(replicas / PASSWORD, _new_password)
    users = redis / ACCOUNTS
    with atomic_write(users, is_synced=True) as file:
        file.write((HEALTH_CHECK + account_rules(writer, replica, prefix)).encode())
    # Redis runs under another user than ours, and the file holds no password.
    redis.chmod(0o755)
    users.chmod(0o644)
    return [service / KEYS, service / PASSWORD, replicas / KEYS, replicas / PASSWORD, users]


def secrets_environment(prefix: str) -> tuple[Mapping[str, str], str]:
    """Returns new secrets by the name of their variable, and the accounts to give to Redis."""
    ring = added(None, Kind.NEXT)
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
