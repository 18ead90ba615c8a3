"""The base class of all records, and the format of Redis keys."""

from typing import TypeAlias

import msgspec

ArmName: TypeAlias = str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A value that crosses a process boundary: frozen, keyword-only, compared by content."""


def key_name(prefix: str, *parts: str | int) -> str:
    """Returns a Redis key in the environment `prefix`: `key_name("eu.", "blob", digest)` is `eu.blob:<digest>`."""
    return f"{prefix}{':'.join(str(part) for part in parts)}"
