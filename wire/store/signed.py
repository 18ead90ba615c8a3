"""Signed records: manifests and rollout plans. No key that signs is ever in Redis.

    record -> canonical JSON -> signature by the first key of `wire/keyring.py` -> {body, signature} in one Redis hash
    and back: the signature names its key, which is looked up among those that are accepted

The format is decoded before the rest, so that a manifest of a later program is refused by name and not misread.

`Seals` seals what belongs to the keys of one service and lies elsewhere: backups, checkpoints at a shared address. The
prefix of the service and its task are part of the name, so what was sealed for one is refused by another.

Rejected: one secret that all programs share (who verified could sign: a replica that was broken into could change what
all of them answer). Judged events are still sealed by a secret: only controllers read them, thousands at a time.
"""

from typing import Any, TypeVar

import msgspec

from wire.errors import BadSignature, UnknownFormat
from wire.keyring import KeyRing
from wire.records import Record, WeightManifest
from wire.store.server import Server

MAX_BODY_BYTES = 32 << 20
"""Largest record: the manifest of 100,000 tensors has about this size."""

SEAL_CHARS = 64
"""Characters of a seal: HMAC-SHA256 in hexadecimal."""

AnyStruct = TypeVar("AnyStruct", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder(order="deterministic")


class _Format(msgspec.Struct):
    format: str = ""
    format_version: int = 0


def encode(record: Record) -> bytes:
    """Returns the bytes to sign; equal records give equal bytes. Raises ValueError above MAX_BODY_BYTES."""
    body = _encoder.encode(record)
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"{type(record).__name__} of {len(body)} bytes: the largest that is read has {MAX_BODY_BYTES}")
    return body


def fetch(server: Server, name: str, ring: KeyRing) -> bytes | None:
    """Returns the body under the Redis key `name` after verifying its signature; None where there is none.

    Raises UnknownKey, BadSignature, and UnknownFormat above MAX_BODY_BYTES.
    """
    num_bytes = server.ask("HSTRLEN", name, "body")
    if num_bytes > MAX_BODY_BYTES:
        raise UnknownFormat(f"{name}: {num_bytes} bytes")
    body, signature = server.ask("HMGET", name, "body", "signature")
    if body is None:
        return None
    ring.verify(body, signature or b"", name)
    return bytes(body)


def sealed(body: bytes, ring: KeyRing, name: str) -> bytes:
    """Returns the seal and the body of a record in one value, as for an entry of the list `name`. Raises CannotSign."""
    return ring.seal(body, name).encode() + body


def opened(value: bytes, ring: KeyRing, name: str) -> bytes:
    """Returns the body of a sealed record. Raises BadSignature, with `name`, where we have not sealed it."""
    ring.open(value[SEAL_CHARS:], value[:SEAL_CHARS], name)
    return value[SEAL_CHARS:]


def signed_entry(body: bytes, ring: KeyRing, name: str) -> bytes:
    """Returns the signature and the body of a record in one value, for a list that replicas read. Raises CannotSign."""
    return ring.sign(body, name).encode() + body


def body_of(value: bytes, ring: KeyRing, name: str) -> bytes:
    """Returns the body of a signed entry. Raises UnknownKey, BadSignature."""
    body, signature = parts_of(value)
    ring.verify(body, signature, name)
    return body


def parts_of(value: bytes) -> tuple[bytes, bytes]:
    """Returns the body and the signature of an entry: the body begins at its first brace."""
    signature, brace, rest = value.partition(b"{")
    return brace + rest, signature


def decode(body: Any, record_type: type[AnyStruct], name: str) -> AnyStruct:
    """Returns the record in `body`. Raises UnknownFormat, with `name`, where it cannot be decoded."""
    try:
        return msgspec.json.decode(body, type=record_type)
    except msgspec.DecodeError as error:
        raise UnknownFormat(f"{name}: {error}") from error


def decode_manifest(body: bytes, version: int | None) -> WeightManifest:
    """Returns the manifest in `body`. Raises UnknownFormat for another format, BadSignature for another version.

    None stands for any version: that of a file, which nobody has signed.
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
        """Returns the seal of `content` as `name`. Raises CannotSign."""
        return self._ring.seal(content, f"{self._prefix}{name}").encode()

    def check(self, content: bytes, seal: bytes, name: str, *, prefix: str | None = None) -> None:
        """Raises BadSignature unless a key of ours sealed `content` as `name`, for our prefix or the one given."""
        self._ring.open(content, seal, f"{self._prefix if prefix is None else prefix}{name}")
