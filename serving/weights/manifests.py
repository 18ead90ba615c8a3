"""The manifests that the resident versions were loaded from, and which of them the store has replaced since.

    number --read--> manifest and its signature, kept        --replaced--> the numbers that name other versions now

A store that lost its last writes in a power cut has forgotten numbers, and may give one to another version. Whoever
still holds the first would answer with it for good. So signatures are compared, which is one small request; where one
differs, the manifests are.

Rejected: comparing the manifests alone (tens of kilobytes to fetch and to verify for each plan), and the signatures
alone (after keys have rotated every version would be loaded again).
"""

from collections.abc import Collection, Iterator
from contextlib import suppress

from wire.errors import BadSignature, BlobCorrupt, NotFound, UnknownFormat
from wire.records import TensorEntry, WeightManifest
from wire.store import Versions


class Manifests:
    """Belongs to a loader. Verbs: read, replaced, keep."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._manifests: dict[int, WeightManifest] = {}
        self._signatures: dict[int, bytes | None] = {}

    @property
    def entries(self) -> set[TensorEntry]:
        """The tensors that the manifests name."""
        return {entry for manifest in self for entry in manifest.tensors}

    def read(self, number: int, versions: Versions) -> WeightManifest:
        """Returns the manifest that `versions` has, and keeps it. Raises what `Versions.manifest` raises."""
        signatures = versions.signatures([number])
        self._manifests[number] = versions.manifest(number)
        self._signatures |= signatures
        return self._manifests[number]

    def replaced(self, numbers: Collection[int]) -> list[int]:
        """Returns those of the kept numbers that name another version now. Raises StoreUnavailable.

        A manifest that was removed, or that cannot be read, takes the place of nothing.
        """
        kept = [number for number in numbers if number in self._manifests]
        found: list[int] = []
        for number, signature in self._versions.signatures(kept).items():
            if signature in (None, self._signatures[number]):
                continue
            with suppress(NotFound, BadSignature, UnknownFormat, BlobCorrupt):
                if self._versions.manifest(number) == self._manifests[number]:
                    # It was signed anew.
                    self._signatures[number] = signature
                else:
                    found.append(number)
        return found

    def keep(self, numbers: Collection[int]) -> None:
        """Drops every other manifest."""
        self._manifests = {number: self._manifests[number] for number in self._manifests.keys() & set(numbers)}
        self._signatures = {number: self._signatures[number] for number in self._manifests}

    def __iter__(self) -> Iterator[WeightManifest]:
        return iter(self._manifests.values())
