"""The keys of a program: for signatures, for receipts, and for the digests of erased subjects.

    parse(text of the setting signing_key) -> KeyRing --sign, seal--> records of learner, controller, operators
                                                      --verify--> records that any program reads
    KeyRing --for_replicas--> public keys instead of the signing keys, and the keys of receipts
    KeyRing.subject, key of an event --subject_digest--> the erased subject in the store, in checkpoints, in reports

A program signs with the first of its keys that can sign, and accepts the signatures of all its keys. So during a
rotation of keys, versions with old signatures are still accepted. A key is a word and hexadecimal digits:

    ed25519-secret    signs (RFC 8032)                               learner, controller, operators
    ed25519-next      signs after the next rotation, and is already accepted
    ed25519-public    verifies signatures of its pair's secret key   replicas
    ed25519-retired   a public key that is no longer accepted: an error names it if it has signed something
    shared-secret     HMAC-SHA256, as in earlier releases: anyone who can verify with it can sign with it
    receipt-secret    makes and checks receipts (`wire/receipts.py`); all programs
    subject-secret    makes digests of erased subjects; learner, operators

**Signatures.** A signature contains the id of its key: `ed25519:<id>:<signature>`. A signature without an id is an HMAC
by a shared secret. Each kind of signature is verified only with keys of its own kind, so that a public key can never be
used as an HMAC secret.

**Text and file.** The text of a ring has one key a line, or several keys with commas between them; # begins a comment.
A file of keys is read again when it has changed, so that keys can be rotated without a restart. If the file cannot be
read, or lacks a key that this program needs, the current keys stay, and the error is logged once.

**Subjects.** The digest of an erased subject is keyed (HMAC-SHA256, truncated to 128 bits), so that somebody who can
read Redis cannot find the subject by trying all customer numbers. The digest must always be the same, everywhere in an
installation, so the key of subjects stays when signing keys are rotated.

Rejected:

- X.509 and JWK: there are no certificate chains, and a choice of algorithms is an attack surface.
- PEM: a ring would be a folder, and secrets are mounted as single files.
- One setting for each kind of key: a program could have half of the keys of one installation and half of another's.
- A thread that watches the file: one more thread to end.
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
"""Bytes of an Ed25519 seed, of a public key, and of each new secret."""

ID_CHARS: Final = 16

ED25519: Final = "ed25519"
"""The first word of a signature that names its key."""

_PURPOSE: Final = b"lifelong signature v2\n"
_MAX_CACHED: Final = 64

HMAC_CHARS: Final = 64

_SIGNER_FIX: Final = "give this program the learner's file of keys, in LIFELONG_SIGNING_KEY_FILE"
_UNKNOWN_KEY_FIX: Final = (
    "if you trust that key, give its public key to this program; otherwise `lifelong signing-keys rotate` signs the "
    "stored records again"
)

MAX_KEYS: Final = 32
"""Highest number of keys in a ring."""

_LOOKS_LIKE_A_WORD: Final = re.compile(r"(?:ed25519|shared|receipt|subject)-\w+:", re.IGNORECASE)

CHECK_S: Final = 5.0
"""Interval at which a program checks its file of keys for changes."""

log = structlog.get_logger("keys")

DIGEST_BYTES: Final = 16


class Kind(StrEnum):
    """The kind of a key: the word before its digits."""

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
        """The id of the key: 16 hexadecimal digits, which reveal nothing about a secret. Both keys of a pair have the
        same id."""
        if self.kind in (*PAIRS, Kind.RETIRED):
            return sha256(self.public).hexdigest()[:ID_CHARS]
        return derive_key(self.value, b"lifelong key id v1").hex()[:ID_CHARS]

    @property
    def public(self) -> bytes:
        """The public key of an Ed25519 key."""
        has_seed = self.kind in (Kind.SECRET, Kind.NEXT)
        return _private(self.value).public_key().public_bytes_raw() if has_seed else self.value

    @property
    def line(self) -> str:
        """The key as a line of a ring's text."""
        return f"{self.kind}:{self.value.hex()}"

    def of_kind(self, kind: Kind) -> "Key":
        """Returns the public key of this pair, accepted or retired."""
        return Key(kind, self.public)

    def sign(self, body: bytes, name: str) -> bytes:
        """Returns the Ed25519 signature of the record `name`."""
        return _private(self.value).sign(_digest_to_sign(body, name))

    def is_signature(self, signature: bytes, body: bytes, name: str) -> bool:
        """Whether the secret key of this pair made this Ed25519 signature of the record `name`."""
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
        """Returns a code that only holders of this secret can check. For a shared secret, it is the HMAC."""
        secret = self.value if self.kind is Kind.SHARED else derive_key(self.value, b"lifelong seal v1")
        return hmac.new(secret, _digest_to_sign(body, name), sha256).hexdigest()


def new_key(kind: Kind) -> Key:
    """Returns a new random key."""
    return Key(kind, secrets.token_bytes(SECRET_BYTES))


def derive_key(secret: bytes, purpose: bytes) -> bytes:
    """Derives the key for one purpose from a secret, by HKDF-Expand (RFC 5869, section 2.3)."""
    return hmac.digest(secret, purpose + b"\x01", sha256)


def find_signer(signature: bytes) -> str:
    """Returns the id of the key in a signature; "" for an HMAC, which has none.

    >>> find_signer(b"ed25519:0123456789abcdef:00"), find_signer(b"00" * 32)
    ('0123456789abcdef', '')
    """
    parts = identity_and_code(signature)
    return parts[0] if parts else ""


def identity_and_code(signature: bytes) -> tuple[str, str] | None:
    """Splits a signature into the id of its key and its digits; None for an HMAC, which has no id."""
    scheme, _, rest = signature.partition(b":")
    if scheme != ED25519.encode():
        return None
    identity, _, code = rest.decode(errors="replace").partition(":")
    return identity, code


def _digest_to_sign(body: bytes, name: str) -> bytes:
    """Returns the bytes that are signed: a prefix, and the hashes of the record's name and of its body.

    The name contains the service, the task and the kind of the record. So a signature is not valid for any other
    record.
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
    """The keys of one program. Verbs: sign, verify, seal, open. Thread-safe.

    `current` returns the current keys of a file that is read again after changes (None: the keys are always `initial`).
    """

    initial: tuple[Key, ...]
    current: Callable[[], tuple[Key, ...]] | None = field(default=None, compare=False, repr=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        """The current keys in order. The tuple is the same object until they change."""
        return self.initial if self.current is None else self.current()

    @property
    def signer(self) -> Key | None:
        """The key that signs: the first one that can; None if the ring can only verify."""
        return next((key for key in self.keys if key.kind in SIGNING), None)

    @property
    def accepted(self) -> tuple[str, ...]:
        """The ids of the accepted keys: first keys that sign, then keys that only verify, then the keys of receipts."""
        return tuple(key.id for key in (*self.of(*SIGNING), *self.of(Kind.NEXT, Kind.PUBLIC), *self.of(Kind.RECEIPT)))

    @property
    def receipts(self) -> tuple[bytes, ...]:
        """The secrets of receipts. The first makes receipts, and all are accepted."""
        return tuple(key.value for key in self.keys if key.kind in (Kind.RECEIPT, Kind.SHARED))

    @property
    def subject(self) -> bytes:
        """The key of subjects' digests. It stays when other keys are rotated, since the digests are kept for good.

        Raises CannotSign if there is none.
        """
        if subject_keys := self.of(Kind.SUBJECT):
            return subject_keys[0].value
        if shared := self.of(Kind.SHARED):
            return derive_key(shared[0].value, b"lifelong subject v1")
        raise CannotSign(f"there is no {Kind.SUBJECT} among our keys, which erasures need: {_SIGNER_FIX}")

    @property
    def holdout(self) -> bytes:
        """The secret by which events are drawn for the holdout. If it changed, events of the old holdout would be
        learnt.

        Raises CannotSign if there is none.
        """
        return derive_key(self.subject, b"lifelong holdout v1")

    @property
    def shared_secret_risk(self) -> str:
        """The risk of a shared secret, with the fix; "" if the ring has none."""
        if not self.of(Kind.SHARED):
            return ""
        return "Anyone who verifies with a shared secret can sign with it: `lifelong signing-keys new`, then `rotate`"

    @property
    def text(self) -> str:
        """The text of the ring, for a setting or a file."""
        return "".join(f"{key.line}\n" for key in self.keys)

    @property
    def secrets(self) -> tuple[str, ...]:
        """All texts that no log may show."""
        digits = [key.value.hex() for key in self.of(*SIGNING, Kind.NEXT, Kind.RECEIPT, Kind.SUBJECT)]
        # A shared secret may also be given as plain text.
        return (*digits, *(key.value.decode(errors="replace") for key in self.of(Kind.SHARED)))

    def of(self, *kinds: Kind) -> tuple[Key, ...]:
        """Returns the keys of these kinds."""
        return tuple(key for key in self.keys if key.kind in kinds)

    def sign(self, body: bytes, name: str) -> str:
        """Returns the signature of the record `name`. Raises CannotSign if no key can sign.

        A name contains the prefix and the task of the service and the kind of the record, as a Redis key does.
        """
        key = self.require_signer()
        if key.kind is Kind.SHARED:
            return key.hmac(body, name)
        return f"{ED25519}:{key.id}:{key.sign(body, name).hex()}"

    def verify(self, body: bytes, signature: bytes, name: str) -> str:
        """Returns the id of the key that signed the record `name`.

        Raises UnknownKey if that key is not accepted, and BadSignature if the record was changed or was signed under
        another name.
        """
        if parts := identity_and_code(signature):
            identity, code = parts
            self._verify(body, code, identity, name)
            return identity
        # A signature without the id of a key is an HMAC.
        shared = self.of(Kind.SHARED)
        for key in shared:
            if hmac.compare_digest(signature, key.hmac(body, name).encode()):
                return key.id
        if shared or len(signature) != HMAC_CHARS:
            raise BadSignature(f"{name} was not signed with our key, or was changed since")
        problem = f"{name} was signed with a shared secret, and there is none among our keys"
        raise UnknownKey(f"{problem}: {_UNKNOWN_KEY_FIX}")

    def seal(self, body: bytes, name: str) -> str:
        """Returns a code (HMAC) that only a ring with the same secrets can check. It is fast enough to seal every
        event.

        Raises CannotSign if no key can sign.
        """
        return self.require_signer().seal(body, name)

    def open(self, body: bytes, code: bytes, name: str) -> None:
        """Raises BadSignature if none of our secrets has sealed `name` with this `code`."""
        if not any(hmac.compare_digest(code, key.seal(body, name).encode()) for key in self.of(*SIGNING)):
            raise BadSignature(f"{name} was not signed with our key, or was changed since")

    def for_replicas(self) -> "KeyRing":
        """Returns the keys that a replica needs, to verify records and to make receipts. They cannot sign weights or
        plans.

        There is one exception: a shared secret can sign, and a replica needs it to verify signatures by it.
        """
        kept = [key for key in self.keys if key.kind is not Kind.SUBJECT]
        public = [key.of_kind(Kind.PUBLIC) if key.kind in PAIRS else key for key in kept]
        return KeyRing(tuple(dict.fromkeys(public)))

    def require_signer(self) -> Key:
        """Returns the key that signs. Raises CannotSign if no key can."""
        if (key := self.signer) is None:
            raise CannotSign(f"our keys can verify but not sign, like a replica's keys: {_SIGNER_FIX}")
        return key

    def _verify(self, body: bytes, code: str, identity: str, name: str) -> None:
        key = next((key for key in self.of(*PAIRS, Kind.RETIRED) if key.id == identity), None)
        if key is None:
            shown = identity[:ID_CHARS]
            raise UnknownKey(f"{name} was signed with the key {shown}, which is not among ours: {_UNKNOWN_KEY_FIX}")
        try:
            is_ours = key.is_signature(bytes.fromhex(code), body, name)
        except ValueError:
            is_ours = False
        if not is_ours:
            raise BadSignature(f"{name} was changed, or signed as another record, with the key {identity}")
        # A retired key is refused only now, so that a changed record is reported as changed.
        if key.kind is Kind.RETIRED:
            raise UnknownKey(f"{name} was signed with the key {identity}, which is retired: {_UNKNOWN_KEY_FIX}")


_HAS_WORD: Final = re.compile(rf"(?:{'|'.join(Kind)}):")


def parse(text: str) -> KeyRing:
    """Parses the text of a ring. Raises ValueError, which names the place and the fix, and never shows a secret.

    If no line of a text begins like a key, the whole text is one shared secret, as in earlier releases.
    """
    if not text:
        raise ValueError("the text of the keys is empty: give all lines of the file of keys")
    parts = _parts(text)
    if not any(_LOOKS_LIKE_A_WORD.match(part) for part in parts.values()):
        return KeyRing((Key(Kind.SHARED, text.encode()),))
    keys = tuple(dict.fromkeys(_parse_key(part, place) for place, part in parts.items()))
    if len(keys) > MAX_KEYS:
        raise ValueError(f"{len(keys)} keys are more than {MAX_KEYS}: remove the lines of retired keys")
    ring = KeyRing(keys)
    if not ring.of(*PAIRS, Kind.SHARED):
        raise ValueError(f"no key signs or verifies: there is neither {Kind.SECRET} nor {Kind.PUBLIC}")
    if not ring.receipts:
        raise ValueError(f"there is no {Kind.RECEIPT} to make receipts with: give all lines of the file of keys")
    return ring


def new_ring() -> KeyRing:
    """Returns the keys of a new installation."""
    return KeyRing(tuple(new_key(kind) for kind in (Kind.SECRET, Kind.RECEIPT, Kind.SUBJECT)))


def _parts(text: str) -> dict[str, str]:
    """Splits the text of a ring at line ends and commas. Returns place -> part; a place is, for example, "line 2, key
    1"."""
    parts: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = [] if line.lstrip().startswith("#") else [word.strip() for word in line.split(",")]
        parts |= {f"line {number}, key {place}": word for place, word in enumerate(words, 1) if word}
    return parts


def _parse_key(part: str, place: str) -> Key:
    if not _HAS_WORD.match(part):
        raise ValueError(f"{place}: begins with no kind of key. There are {', '.join(Kind)}, each followed by a colon")
    word, _, digits = part.partition(":")
    kind = Kind(word)
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        raise ValueError(f"{place}: the text after {kind}: is not hexadecimal") from None
    if len(value) != SECRET_BYTES and not (kind is Kind.SHARED and value):
        raise ValueError(f"{place}: {kind} needs {2 * SECRET_BYTES} hexadecimal digits, not {len(digits)}")
    return Key(kind, value)


class FollowedKeys:
    """A function that returns the current keys of a file, which it reads again after a change.

    Any thread may call it, and other processes may have copies of it.
    """

    def __init__(self, path: Path, keys: tuple[Key, ...], *, check_s: float) -> None:
        self._path = path
        self._keys = keys
        self._watch = FileWatch(path, check_s=check_s, is_read=False)
        self._error = ""

    def __call__(self) -> tuple[Key, ...]:
        try:
            keys = self._watch.read_again(self._read)
        except (OSError, ValueError) as error:
            self._log_once(str(error))
            return self._keys
        if keys is not None:
            self._error = ""
            if keys != self._keys:
                self._keys = keys
                log.info("keys_read_again", path=str(self._path), accepted=KeyRing(keys).accepted)
        return self._keys

    def _read(self) -> tuple[Key, ...]:
        keys = parse(self._path.read_text().rstrip("\r\n")).keys
        # With the keys of a replica, a program that signs could not go on.
        if _signs(self._keys) and not _signs(keys):
            raise ValueError("its keys can verify but not sign, like a replica's keys")
        return keys

    def _log_once(self, error: str) -> None:
        if error != self._error:
            self._error = error
            fix = "correct the file; until then, the previous keys stay"
            log.error("keys_not_read", path=str(self._path), error=error, fix=fix)


def follow_file(path: Path, ring: KeyRing, *, check_s: float = CHECK_S) -> KeyRing:
    """Returns a ring that begins with the keys of `ring`, and reads the file again after each change."""
    return KeyRing(ring.keys, FollowedKeys(path, ring.keys, check_s=check_s))


def read_ring(text: str, *, file: str) -> KeyRing:
    """Returns the keys in `file`, which is read again after each change; if no file is named, the keys in `text`.

    The ring is empty if both are "". Raises ValueError.
    """
    if not file:
        return parse(text) if text else KeyRing(())
    path = Path(file).absolute()
    try:
        return follow_file(path, parse(path.read_text().rstrip("\r\n")))
    except OSError as error:
        raise ValueError(f"{file}: cannot be read as keys ({error})") from error


def _signs(keys: tuple[Key, ...]) -> bool:
    return any(key.kind in SIGNING for key in keys)


def subject_digest(subject_key: bytes, subject: str) -> str:
    """Returns the digest of `subject`: 32 hexadecimal digits.

    Raises ValueError if the key or the subject is empty.
    """
    if not subject_key:
        raise ValueError("the digest of a subject needs a key")
    if not subject:
        raise ValueError("the subject is empty: events without a key have no subject that could be erased")
    return hmac.digest(subject_key, subject.encode(), sha256)[:DIGEST_BYTES].hex()
