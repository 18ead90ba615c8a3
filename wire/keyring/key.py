"""One key of a ring: what it is for, its id, and the cryptography. `cryptography` is imported where it is needed."""

import hmac
import secrets
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SECRET_BYTES: Final = 32
"""Bytes of an Ed25519 seed, of a public key, and of each secret that is made here."""

ID_CHARS: Final = 16

ED25519: Final = "ed25519"
"""The first word of a signature that names its key."""

_PURPOSE: Final = b"lifelong signature v2\n"
_MAX_CACHED: Final = 64


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
        return _private(self.value).sign(_digest(body, name))

    def is_signature(self, signature: bytes, body: bytes, name: str) -> bool:
        """Whether the secret of this pair made the Ed25519 signature of the record `name`."""
        from cryptography.exceptions import InvalidSignature

        try:
            _public(self.public).verify(signature, _digest(body, name))
        except InvalidSignature:
            return False
        return True

    def hmac(self, body: bytes, name: str) -> str:
        """Returns the HMAC of the record `name` under a shared secret."""
        return hmac.new(self.value, _digest(body, name), sha256).hexdigest()

    def seal(self, body: bytes, name: str) -> str:
        """Returns a code that only holders of this secret can check; that of a shared secret is its HMAC."""
        secret = self.value if self.kind is Kind.SHARED else derived(self.value, b"lifelong seal v1")
        return hmac.new(secret, _digest(body, name), sha256).hexdigest()


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


def _digest(body: bytes, name: str) -> bytes:
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
