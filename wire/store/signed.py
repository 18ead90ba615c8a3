"""Signed records, such as manifests and rollout plans. A signing key is never stored in Redis.

    record -> canonical JSON -> signature by the first key of `wire/keyring.py` -> {body, signature} in one Redis hash
    and back: the signature names its key, which must be one of the accepted keys

The format version is decoded before the other fields, so that a manifest of a later release is refused with its version
and not misread.

`Seals` seals files of one service outside Redis: backups, and checkpoints at a shared address. The prefix of the
service and its task are part of the sealed name, so another service refuses the file.

Rejected: one secret that all programs share. Every program that verifies could then sign, so an attacker on one replica
could change the answers of all replicas. Judged events are nevertheless sealed with a secret, because only controllers
read them, and a seal is fast enough for thousands of them.
"""

from typing import Any, TypeVar

import msgspec

from wire.errors import BadSignature, UnknownFormat
from wire.keyring import KeyRing
from wire.records import Record, WeightManifest
from wire.store.server import Server

MAX_BODY_BYTES = 32 << 20
"""Largest record. The manifest of 100,000 tensors has about this size."""

SEAL_CHARS = 64
"""Characters of a seal: HMAC-SHA256 in hexadecimal."""

AnyStruct = TypeVar("AnyStruct", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder(order="deterministic")


class _Format(msgspec.Struct):
    format: str = ""
    format_version: int = 0


def encode(record: Record) -> bytes:
    """Returns the bytes to sign: equal records give equal bytes. Raises ValueError above MAX_BODY_BYTES."""
    body = _encoder.encode(record)
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"{type(record).__name__} of {len(body)} bytes: at most {MAX_BODY_BYTES} are accepted")
    return body


def fetch(server: Server, name: str, ring: KeyRing) -> bytes | None:
    """Returns the body under the Redis key `name` after verifying its signature; None if there is no body.

    Raises UnknownKey, BadSignature, and UnknownFormat above MAX_BODY_BYTES.
    """
    num_bytes = server.ask("HSTRLEN", name, "body")
    if num_bytes > MAX_BODY_BYTES:
        raise UnknownFormat(f"{name}: {num_bytes} bytes, at most {MAX_BODY_BYTES} are accepted")
    body, signature = server.ask("HMGET", name, "body", "signature")
    if body is None:
        return None
    ring.verify(body, signature or b"", name)
    return bytes(body)


def seal_entry(body: bytes, ring: KeyRing, name: str) -> bytes:
    """Returns seal and body of a record as one value, for an entry of the list `name`. Raises CannotSign."""
    return ring.seal(body, name).encode() + body


def open_entry(value: bytes, ring: KeyRing, name: str) -> bytes:
    """Returns the body of a sealed record. Raises BadSignature with `name` if none of our keys has sealed it."""
    ring.open(value[SEAL_CHARS:], value[:SEAL_CHARS], name)
    return value[SEAL_CHARS:]


def sign_entry(body: bytes, ring: KeyRing, name: str) -> bytes:
    """Returns signature and body of a record as one value, for a list that replicas read. Raises CannotSign."""
    return ring.sign(body, name).encode() + body


def verify_entry(value: bytes, ring: KeyRing, name: str) -> bytes:
    """Verifies a signed entry and returns its body. Raises UnknownKey, BadSignature."""
    body, signature = split_entry(value)
    ring.verify(body, signature, name)
    return body


def split_entry(value: bytes) -> tuple[bytes, bytes]:
    """Returns the body and the signature of an entry. The body begins at the first brace."""
    signature, brace, rest = value.partition(b"{")
    return brace + rest, signature


def decode(body: Any, record_type: type[AnyStruct], name: str) -> AnyStruct:
    """Returns the record in `body`. Raises UnknownFormat with `name` if it cannot be decoded."""
    try:
        return msgspec.json.decode(body, type=record_type)
    except msgspec.DecodeError as error:
        raise UnknownFormat(f"{name}: {error}") from error


def decode_manifest(body: bytes, version: int | None) -> WeightManifest:
    """Returns the manifest in `body`. Raises UnknownFormat for another format, BadSignature for another version.

    With `version` None any version is accepted: for a manifest in an unsigned file.
    """
    name = f"manifest of version {version}" if version is not None else "manifest"
    head = decode(body, _Format, name)
    versions = WeightManifest.FORMAT_VERSIONS
    if head.format != WeightManifest.FORMAT or head.format_version not in versions:
        raise UnknownFormat(
            f"{name} is {head.format!r} {head.format_version}; this program reads {WeightManifest.FORMAT} "
            f"{' and '.join(map(str, versions))}"
        )
    manifest = decode(body, WeightManifest, name)
    if version not in (None, manifest.version):
        raise BadSignature(f"{name} was signed as version {manifest.version}")
    return manifest


class Seals:
    """The seals of one service and task."""

    def __init__(self, ring: KeyRing, prefix: str) -> None:
        self._ring = ring
        self._prefix = prefix

    @property
    def signer(self) -> str:
        """The id of the key that seals. Raises CannotSign."""
        return self._ring.require_signer().id

    def seal(self, content: bytes, name: str) -> bytes:
        """Returns the seal of `content` under the name `name`. Raises CannotSign."""
        return self._ring.seal(content, f"{self._prefix}{name}").encode()

    def check(self, content: bytes, seal: bytes, name: str, *, prefix: str | None = None) -> None:
        """Raises BadSignature unless one of our keys sealed `content` under `name`, for `prefix` (None: our prefix)."""
        if prefix is None:
            prefix = self._prefix
        self._ring.open(content, seal, f"{prefix}{name}")
