"""Signed records: manifests and rollout plans. The key is never in Redis.

    record -> canonical JSON -> HMAC-SHA256 -> {body, signature} in one Redis hash, and back

The format is decoded before the rest, so that a manifest of a later program is refused by name and not misread.

Rejected: Ed25519 (all processes of one installation are equally trusted, and one shared key needs no dependency).
"""

import hmac
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from wire.errors import BadSignature, UnknownFormat
from wire.records import Record, WeightManifest
from wire.store.server import Server

MAX_BODY_BYTES = 32 << 20
"""Largest record: the manifest of 100,000 tensors has about this size."""

SIGNATURE_CHARS = 64
"""HMAC-SHA256 in hexadecimal."""

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


def sign(body: bytes, key: bytes) -> str:
    return hmac.new(key, body, sha256).hexdigest()


def fetch(server: Server, name: str, signing_key: bytes) -> bytes | None:
    """Returns the body under the Redis key `name` after verifying its signature; None where there is none."""
    num_bytes = server.ask("HSTRLEN", name, "body")
    if num_bytes > MAX_BODY_BYTES:
        raise UnknownFormat(f"{name}: {num_bytes} bytes")
    body, signature = server.ask("HMGET", name, "body", "signature")
    return None if body is None else _verified(body, signature or b"", signing_key, name)


def sealed(record: Record, signing_key: bytes) -> bytes:
    """Returns the signature and the body of a record in one value, as for an entry of a list."""
    body = encode(record)
    return sign(body, signing_key).encode() + body


def opened(value: bytes, signing_key: bytes, name: str) -> bytes:
    """Returns the body of a sealed record. Raises BadSignature, with `name`, where we have not signed it."""
    return _verified(value[SIGNATURE_CHARS:], value[:SIGNATURE_CHARS], signing_key, name)


def _verified(body: bytes, signature: bytes, signing_key: bytes, name: str) -> bytes:
    if not hmac.compare_digest(signature, sign(body, signing_key).encode()):
        raise BadSignature(f"{name} was not signed with our key, or was changed since")
    return bytes(body)


def decode(body: Any, record_type: type[AnyStruct], name: str) -> AnyStruct:
    """Returns the record in `body`. Raises UnknownFormat, with `name`, where it cannot be decoded."""
    try:
        return msgspec.json.decode(body, type=record_type)
    except msgspec.DecodeError as error:
        raise UnknownFormat(f"{name}: {error}") from error


def decode_manifest(body: bytes, version: int) -> WeightManifest:
    """Returns the manifest in `body`. Raises UnknownFormat for another format, BadSignature for another version."""
    name = f"manifest of version {version}"
    head = decode(body, _Format, name)
    versions = WeightManifest.FORMAT_VERSIONS
    if head.format != WeightManifest.FORMAT or head.format_version not in versions:
        raise UnknownFormat(
            f"{name} is {head.format!r} {head.format_version}; this program reads {WeightManifest.FORMAT} "
            f"{' and '.join(map(str, versions))}"
        )
    manifest = decode(body, WeightManifest, name)
    if manifest.version != version:
        raise BadSignature(f"{name} was signed as version {manifest.version}")
    return manifest
