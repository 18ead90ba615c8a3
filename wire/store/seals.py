"""Seals of what belongs to the keys of one service and lies elsewhere: backups, checkpoints at a shared address.

    content, name --seal--> 64 characters that only a program with the secrets of the service can make     check

The prefix of the service and its task are part of the name, so what was sealed for one is refused by another.
"""

from wire.keyring import KeyRing


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
