"""Caches the tensors of published versions in memory, to write them again if the store has lost or damaged them.

    candidate --put_blobs--> the store
    published version --add--> its tensors --keep: versions of the plan, and the newest few--> find(digest)

Versions share most of their tensors, so one more version costs about as much memory as a head. A tensor that is not in
the cache is made again from the checkpoint of its version (`learner.release.handlers`).
"""

from collections.abc import Iterable, Mapping

from learner.encoder.served import StoredTensor
from learner.failpoints import failpoint
from model.inputs import is_state
from model.qtensor import from_blob
from wire.records import WeightManifest
from wire.store import Blobs

NEWEST = 8
"""How many of the newest versions are kept besides the versions of the plan. The plan will adopt one of them."""


class TensorCache:
    """A cache of the tensors of versions.

    `suspects` has the digests of tensors that may be damaged in the store, and have to be verified.
    """

    def __init__(self) -> None:
        self._versions: dict[int, Mapping[str, StoredTensor]] = {}
        self.suspects: set[str] = set()

    def add(self, version: int, tensors: Mapping[str, StoredTensor]) -> None:
        """Adds the tensors of a version, by name."""
        self._versions[version] = tensors

    def keep(self, versions: Iterable[int]) -> None:
        """Drops all versions except these and the newest few."""
        remaining = {*versions, *sorted(self._versions)[-NEWEST:]}
        self._versions = {version: tensors for version, tensors in self._versions.items() if version in remaining}

    def has(self, version: int) -> bool:
        """Returns whether the tensors of `version` are in the cache."""
        return version in self._versions

    def suspect(self, tensors: Mapping[str, StoredTensor]) -> None:
        """Marks tensors as suspect: they may be damaged in the store."""
        self.suspects |= {stored.entry.digest for stored in tensors.values()}

    def find(self, digest: str) -> StoredTensor | None:
        """Returns the tensor with this digest; None if it is not in the cache."""
        for tensors in self._versions.values():
            for stored in tensors.values():
                if stored.entry.digest == digest:
                    return stored
        return None


def put_blobs(tensors: Iterable[StoredTensor], blobs: Blobs) -> None:
    """Sends the tensors that the store does not have yet, as blobs."""
    stored = {tensor.entry.digest: tensor for tensor in tensors}
    for digest in stored.keys() - blobs.has(stored):
        blobs.put(stored[digest].tensor.to_blob())
        failpoint("after-blob")


def stored_states(manifest: WeightManifest, blobs: Blobs) -> dict[str, StoredTensor]:
    """Returns the input tensors (scales of numbers) of a version from the store, by name.

    Raises NotFound, BlobCorrupt.
    """
    states = {name: stored_tensor(manifest, name, blobs) for name in manifest.encoder_digests if is_state(name)}
    return {name: tensor for name, tensor in states.items() if tensor is not None}


def stored_tensor(manifest: WeightManifest, name: str, blobs: Blobs) -> StoredTensor | None:
    """Reads the tensor `name` of a version from the store; returns None if the version has no tensor of this name.

    Raises NotFound, BlobCorrupt.
    """
    entry = next((entry for entry in manifest.tensors if entry.name == name), None)
    if entry is None:
        return None
    return StoredTensor(entry, from_blob(entry, blobs.get(entry.digest, entry.num_bytes)))
