"""The keys of a program: with which it signs, what it accepts, what proves a receipt, and what names erased subjects.

    parse(text of the setting signing_key) -> KeyRing --sign, seal--> learner, controller, operators
                                                      --verify--> all programs, replicas among them
    KeyRing --for_replicas--> the keys without those that sign
    KeyRing.subject, key of an event --subject_digest--> the erased subject in the store, in checkpoints, in reports

The first key that can sign signs, and all are accepted, so keys rotate without a version being refused. A key is a word
and hexadecimal digits:

    ed25519-secret    signs (RFC 8032)                               learner, controller, operators
    ed25519-next      signs after the next rotation, and is accepted before
    ed25519-public    verifies what the secret of its pair signed    replicas
    ed25519-retired   a public key that is not accepted any more: what it signed is refused by its name
    shared-secret     HMAC-SHA256, as earlier releases signed: whoever can verify with it can sign with it
    receipt-secret    makes and checks receipts (`wire/receipts.py`); all programs
    subject-secret    names erased subjects; learner, operators

A signature names its key: `ed25519:<id>:<signature>`. One without a name is an HMAC by a shared secret. A kind verifies
with keys of its own kind alone, so that a public key is never taken for a secret that everybody knows.

The text of a ring has one key a line, or several between commas; # begins a remark. A file of keys is read again when
it has another stamp, so that keys rotate without a restart. A file that cannot be read, or holds keys with which this
program could not go on, changes nothing: the keys that were read last stay, and the log says so once.

The digest of a subject is keyed (HMAC-SHA256, truncated to 128 bits), so that a reader of Redis cannot find a subject
by trying all customer numbers. One key of events has the same digest everywhere in one installation, and for good: the
subject's key stays while keys that sign rotate.

Rejected: X.509 and JWK (there is no chain and no choice of algorithms here, and a choice is a way to be fooled), PEM (a
ring would be a folder, and secrets are mounted as files), one setting for each kind (a program would have half of the
keys of one installation and half of another's), and a thread that watches the file (each program would have one more to
end).
"""

import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from wire.errors import BadSignature, CannotSign, UnknownKey
from wire.files import FileWatch

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


SECRET_BYTES: Final = 32
"""Bytes of an Ed25519 seed, of a public key, and of each secret that is made here."""

ID_CHARS: Final = 16

ED25519: Final = "ed25519"
"""The first word of a signature that names its key."""

_PURPOSE: Final = b"lifelong signature v2\n"
_MAX_CACHED: Final = 64

HMAC_CHARS: Final = 64

_FIX: Final = "give this program the file of keys of the learner, in LIFELONG_SIGNING_KEY_FILE"
_AGAIN: Final = (
    "if that key is to be trusted, give its public key to this program; else `lifelong signing-keys rotate` signs anew "
    "what is stored"
)

MAX_KEYS: Final = 32
"""Most keys of a ring."""

_LOOKS_LIKE_A_WORD: Final = re.compile(r"(?:ed25519|shared|receipt|subject)-\w+:", re.IGNORECASE)

CHECK_S: Final = 5.0
"""Interval at which a program looks whether its file has changed."""

log = structlog.get_logger("keys")

DIGEST_BYTES: Final = 16


class Kind(StrEnum):
    """What a key is for: the word before its digits."""

    SECRET = "ed25519-secret"
    NEXT = "ed25519-next"
    PUBLIC = "ed25519-public"
    RETIRED = "ed25519-retired"
    SHARED = "shared-secret"
    RECEIPT = "receipt-secret"
    SUBJECT = "subject-secret"


SIGNING: Final = (Kind.SECRET, Kind.SHARED)
"""The kinds that can sign."""

PAIRS: Final = (Kind.SECRET, Kind.NEXT, Kind.PUBLIC)
"""The kinds that verify Ed25519 signatures."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key: the seed of an Ed25519 key, a public key, or a secret."""

    kind: Kind
    value: bytes

    def __repr__(self) -> str:
        return f"Key({self.kind}, {self.id})"

    @property
    def id(self) -> str:
        """16 hexadecimal digits that tell nothing of a secret. Both keys of a pair have the same."""
        if self.kind in (*PAIRS, Kind.RETIRED):
            return sha256(self.public).hexdigest()[:ID_CHARS]
        return derived(self.value, b"lifelong key id v1").hex()[:ID_CHARS]

    @property
    def public(self) -> bytes:
        """The public key of an Ed25519 key."""
        has_seed = self.kind in (Kind.SECRET, Kind.NEXT)
        return _private(self.value).public_key().public_bytes_raw() if has_seed else self.value

    @property
    def line(self) -> str:
        """The key as the text of a ring has it."""
        return f"{self.kind}:{self.value.hex()}"

    def of_kind(self, kind: Kind) -> "Key":
        """Returns the public key of this pair, accepted or retired."""
        return Key(kind, self.public)

    def sign(self, body: bytes, name: str) -> bytes:
        """Returns the Ed25519 signature of the record `name`."""
        return _private(self.value).sign(_digest_to_sign(body, name))

    def is_signature(self, signature: bytes, body: bytes, name: str) -> bool:
        """Whether the secret of this pair made the Ed25519 signature of the record `name`."""
        from cryptography.exceptions import InvalidSignature

        try:
            _public(self.public).verify(signature, _digest_to_sign(body, name))
        except InvalidSignature:
            return False
        return True

    def hmac(self, body: bytes, name: str) -> str:
        """Returns the HMAC of the record `name` under a shared secret."""
        return hmac.new(self.value, _digest_to_sign(body, name), sha256).hexdigest()

    def seal(self, body: bytes, name: str) -> str:
        """Returns a code that only holders of this secret can check; that of a shared secret is its HMAC."""
        secret = self.value if self.kind is Kind.SHARED else derived(self.value, b"lifelong seal v1")
        return hmac.new(secret, _digest_to_sign(body, name), sha256).hexdigest()


def new_key(kind: Kind) -> Key:
    """Returns a key of random bytes."""
    return Key(kind, secrets.token_bytes(SECRET_BYTES))


def derived(secret: bytes, purpose: bytes) -> bytes:
    """Returns the key for one purpose, by HKDF-Expand (RFC 5869, section 2.3)."""
    return hmac.digest(secret, purpose + b"\x01", sha256)


def signer_of(signature: bytes) -> str:
    """Returns the id of the key that a signature names; "" for an HMAC, which names none.

    >>> signer_of(b"ed25519:0123456789abcdef:00"), signer_of(b"00" * 32)
    ('0123456789abcdef', '')
    """
    named = identity_and_code(signature)
    return named[0] if named else ""


def identity_and_code(signature: bytes) -> tuple[str, str] | None:
    """Returns the id of the key that a signature names, and the digits behind it; None for an HMAC."""
    scheme, _, rest = signature.partition(b":")
    if scheme != ED25519.encode():
        return None
    identity, _, code = rest.decode(errors="replace").partition(":")
    return identity, code


def _digest_to_sign(body: bytes, name: str) -> bytes:
    """Returns what is signed: fast hashes of the record and of its name, so that its size hardly counts.

    The name says of which kind, task and service the record is: another one cannot take its place.
    """
    return _PURPOSE + sha256(name.encode()).digest() + sha256(body).digest()


@lru_cache(maxsize=_MAX_CACHED)
def _private(seed: bytes) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed)


@lru_cache(maxsize=_MAX_CACHED)
def _public(key: bytes) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(key)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of one program. Verbs: sign, verify, seal, open.

    Thread-safe: nothing changes but what `current` returns, the keys of a file that is followed (None: those given).
    """

    given: tuple[Key, ...]
    current: Callable[[], tuple[Key, ...]] | None = field(default=None, compare=False, repr=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys in force, in their order: the same tuple until they change."""
        return self.given if self.current is None else self.current()

    @property
    def signer(self) -> Key | None:
        """The key that signs: the first that can; None in a ring that can only verify."""
        return next((key for key in self.keys if key.kind in SIGNING), None)

    @property
    def accepted(self) -> tuple[str, ...]:
        """The ids of the keys whose signatures are accepted, the one that signs first; then those of receipts."""
        return tuple(key.id for key in (*self.of(*SIGNING), *self.of(Kind.NEXT, Kind.PUBLIC), *self.of(Kind.RECEIPT)))

    @property
    def receipts(self) -> tuple[bytes, ...]:
        """The secrets of receipts: the first makes them, all are accepted."""
        return tuple(key.value for key in self.keys if key.kind in (Kind.RECEIPT, Kind.SHARED))

    @property
    def subject(self) -> bytes:
        """The key that names subjects. It stays while other keys rotate, as its digests are kept for good.

        Raises CannotSign.
        """
        if found := self.of(Kind.SUBJECT):
            return found[0].value
        if shared := self.of(Kind.SHARED):
            return derived(shared[0].value, b"lifelong subject v1")
        raise CannotSign(f"there is no {Kind.SUBJECT} among our keys, which names who is erased: {_FIX}")

    @property
    def holdout(self) -> bytes:
        """The secret that draws the holdout. It stays while other keys rotate, or an event might be learnt after all.

        Raises CannotSign.
        """
        return derived(self.subject, b"lifelong holdout v1")

    @property
    def why_unsafe(self) -> str:
        """What a shared secret allows, with the way out; empty where there is none."""
        if not self.of(Kind.SHARED):
            return ""
        return "Whoever verifies with a shared secret can sign with it: `lifelong signing-keys new`, then `rotate`"

    @property
    def text(self) -> str:
        """The ring as a setting or a file has it."""
        return "".join(f"{key.line}\n" for key in self.keys)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log may show. A shared secret is also known by its text."""
        lines = [key.value.hex() for key in self.of(*SIGNING, Kind.NEXT, Kind.RECEIPT, Kind.SUBJECT)]
        return (*lines, *(key.value.decode(errors="replace") for key in self.of(Kind.SHARED)))

    def of(self, *kinds: Kind) -> tuple[Key, ...]:
        """Returns the keys of these kinds."""
        return tuple(key for key in self.keys if key.kind in kinds)

    def sign(self, body: bytes, name: str) -> str:
        """Returns the signature of the record `name`. Raises CannotSign.

        Names have the prefix and the task of the service, and the kind of the record: a Redis key has them all.
        """
        key = self.require_signer()
        return key.hmac(body, name) if key.kind is Kind.SHARED else f"{ED25519}:{key.id}:{key.sign(body, name).hex()}"

    def verify(self, body: bytes, signature: bytes, name: str) -> str:
        """Returns the id of the key that signed the record `name`.

        Raises UnknownKey where that is none that we accept, BadSignature where the record was changed since, or was
        signed under another name.
        """
        if named := identity_and_code(signature):
            identity, code = named
            self._verify(body, code, identity, name)
            return identity
        shared = self.of(Kind.SHARED)
        for key in shared:
            if hmac.compare_digest(signature, key.hmac(body, name).encode()):
                return key.id
        if shared or len(signature) != HMAC_CHARS:
            raise BadSignature(f"{name} was not signed with our key, or was changed since")
        raise UnknownKey(f"{name} was signed with a shared secret, and there is none among our keys: {_AGAIN}")

    def seal(self, body: bytes, name: str) -> str:
        """Returns a code that only a ring with the same secrets can check: fast enough for every judged event.

        Raises CannotSign.
        """
        return self.require_signer().seal(body, name)

    def open(self, body: bytes, code: bytes, name: str) -> None:
        """Raises BadSignature where no secret of ours has sealed `name`."""
        if not any(hmac.compare_digest(code, key.seal(body, name).encode()) for key in self.of(*SIGNING)):
            raise BadSignature(f"{name} was not signed with our key, or was changed since")

    def for_replicas(self) -> "KeyRing":
        """Returns what a replica needs: it can verify and make receipts, and sign neither weights nor plans.

        A shared secret can sign; it stays while it is in the list, or what it signed could not be verified.
        """
        kept = [key for key in self.keys if key.kind is not Kind.SUBJECT]
        public = [key.of_kind(Kind.PUBLIC) if key.kind in PAIRS else key for key in kept]
        return KeyRing(tuple(dict.fromkeys(public)))

    def require_signer(self) -> Key:
        """Returns the key that signs. Raises CannotSign."""
        if (key := self.signer) is None:
            raise CannotSign(f"our keys can verify and not sign, as those of a replica: {_FIX}")
        return key

    def _verify(self, body: bytes, code: str, identity: str, name: str) -> None:
        key = next((key for key in self.of(*PAIRS, Kind.RETIRED) if key.id == identity), None)
        if key is None:
            raise UnknownKey(f"{name} was signed with the key {identity[:ID_CHARS]}, which is not among ours: {_AGAIN}")
        try:
            is_ours = key.is_signature(bytes.fromhex(code), body, name)
        except ValueError:
            is_ours = False
        if not is_ours:
            raise BadSignature(f"{name} was changed, or signed as another record, with the key {identity}")
        if key.kind is Kind.RETIRED:
            raise UnknownKey(f"{name} was signed with the key {identity}, which is retired: {_AGAIN}")


_HAS_WORD: Final = re.compile(rf"(?:{'|'.join(Kind)}):")


def parse(text: str) -> KeyRing:
    """Returns the ring of a text. Raises ValueError, which names the place and the fix, and never a secret.

    A text in which no line begins as a key does is one shared secret, as in earlier releases.
    """
    if not text:
        raise ValueError("there is no key")
    parts = _parts(text)
    if not any(_LOOKS_LIKE_A_WORD.match(part) for part in parts.values()):
        return KeyRing((Key(Kind.SHARED, text.encode()),))
    keys = tuple(dict.fromkeys(_key_of(part, place) for place, part in parts.items()))
    if len(keys) > MAX_KEYS:
        raise ValueError(f"{len(keys)} keys are more than {MAX_KEYS}: remove lines of keys that are retired")
    ring = KeyRing(keys)
    if not ring.of(*PAIRS, Kind.SHARED):
        raise ValueError(f"no key signs or verifies: there is neither {Kind.SECRET} nor {Kind.PUBLIC}")
    if not ring.receipts:
        raise ValueError(f"there is no {Kind.RECEIPT}, so no receipt can be made: give all lines of the file of keys")
    return ring


def new_ring() -> KeyRing:
    """Returns the keys of a new installation."""
    return KeyRing(tuple(new_key(kind) for kind in (Kind.SECRET, Kind.RECEIPT, Kind.SUBJECT)))


def _parts(text: str) -> dict[str, str]:
    """Returns what stands between line ends and commas, by its place."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = [] if line.lstrip().startswith("#") else [word.strip() for word in line.split(",")]
        found |= {f"line {number}, key {place}": word for place, word in enumerate(words, 1) if word}
    return found


def _key_of(part: str, place: str) -> Key:
    if not _HAS_WORD.match(part):
        raise ValueError(f"{place}: begins with no kind of key. There are {', '.join(Kind)}, each with a : behind it")
    word, _, digits = part.partition(":")
    kind = Kind(word)
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        raise ValueError(f"{place}: what stands behind {kind}: is not hexadecimal") from None
    if len(value) != SECRET_BYTES and not (kind is Kind.SHARED and value):
        raise ValueError(f"{place}: {kind} has {2 * SECRET_BYTES} hexadecimal digits, and here are {len(digits)}")
    return Key(kind, value)


class FollowedKeys:
    """The keys of one file; a call returns them. Any thread may call, and every process that gets a copy."""

    def __init__(self, path: Path, keys: tuple[Key, ...], *, check_s: float) -> None:
        self._path = path
        self._keys = keys
        self._watch = FileWatch(path, check_s=check_s, is_read=False)
        self._error = ""

    def __call__(self) -> tuple[Key, ...]:
        try:
            keys = self._watch.read_again(self._read)
        except (OSError, ValueError) as error:
            self._tell(str(error))
            return self._keys
        if keys is not None:
            self._error = ""
            if keys != self._keys:
                self._keys = keys
                log.info("keys_read_again", path=str(self._path), accepted=KeyRing(keys).accepted)
        return self._keys

    def _read(self) -> tuple[Key, ...]:
        keys = parse(self._path.read_text().rstrip("\r\n")).keys
        if _signs(self._keys) and not _signs(keys):
            raise ValueError("its keys can verify and not sign, as those of a replica")
        return keys

    def _tell(self, error: str) -> None:
        if error != self._error:
            self._error = error
            log.error("keys_not_read", path=str(self._path), error=error, fix="the keys of before stay: correct it")


def followed(path: Path, ring: KeyRing, *, check_s: float = CHECK_S) -> KeyRing:
    """Returns the keys of `ring`, and from now on those of the file, whatever it is changed to."""
    return KeyRing(ring.keys, FollowedKeys(path, ring.keys, check_s=check_s))


def given(text: str, *, file: str) -> KeyRing:
    """Returns the keys of a text, or of a file, which is followed; none where both are empty. Raises ValueError."""
    if not file:
        return parse(text) if text else KeyRing(())
    path = Path(file).absolute()
    try:
        return followed(path, parse(path.read_text().rstrip("\r\n")))
    except OSError as error:
        raise ValueError(f"{file}: cannot be read as keys ({error})") from error


def _signs(keys: tuple[Key, ...]) -> bool:
    return any(key.kind in SIGNING for key in keys)


def subject_digest(subject_key: bytes, subject: str) -> str:
    """Returns the digest of `subject`, 32 hexadecimal digits.

    Raises ValueError for an empty key, and for the subject "", which names nobody.
    """
    if not subject_key:
        raise ValueError("subjects need a key")
    if not subject:
        raise ValueError("no subject: events without a key are about nobody that can be told from others")
    return hmac.digest(subject_key, subject.encode(), sha256)[:DIGEST_BYTES].hex()
