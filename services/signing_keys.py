"""Changes the file of keys: a new one, the order in which they are tried, and which are accepted no more.

    file --read--> KeyRing --added, rotated, retired--> KeyRing --write--> file       `lifelong signing-keys`
    reports of the programs that run --unready--> those that would refuse, or go on signing with, a key

A rotation has three steps, and each is safe to take when every program has the keys of the step before: a new key is
accepted (`added`), signs (`rotated`), and the old one is accepted no more (`retired`). What the programs that run
accept is in their reports.

Rejected: one step for all three. Programs follow their file (`wire/keyring.py`) some seconds behind one
another, so a key has to be known everywhere before it signs.
"""

from collections.abc import Iterator
from pathlib import Path

from services.local.folders import new_folder
from wire.files import atomic_write
from wire.keyring import PAIRS, Key, KeyRing, Kind, new_key, new_ring, parse
from wire.records import ReplicaReport
from wire.store import Store


class KeysUnfit(RuntimeError):
    """The keys cannot be changed so: what is wrong, and the fix."""


def read(path: Path) -> KeyRing | None:
    """Returns the keys in a file; None where there is no file. Raises KeysUnfit where it cannot be read."""
    try:
        return parse(path.read_text().rstrip("\r\n"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise KeysUnfit(f"{path}: cannot be read as keys ({error}). Restore it from a copy") from error


def write(path: Path, ring: KeyRing) -> None:
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
