"""The tensors of published versions that the learner has at hand: what it can write again where the store lost it.

    published --add--> by version --keep: those in the plan, and the newest few--> of(digest)

Versions share most of their tensors, so one more costs about a head. What is not at hand is made again from the
checkpoint of its version (`learner.release.repair`).
"""

from collections.abc import Iterable, Mapping

from learner.export import Stored

NEWEST = 8
"""Newest versions that are kept besides those that the plan names: one of them will be its next."""


class Stock:
    """Tensors by version. `suspects` are digests that somebody could not use: they are to be looked at."""

    def __init__(self) -> None:
        self._versions: dict[int, Mapping[str, Stored]] = {}
        self.suspects: set[str] = set()

    def add(self, version: int, tensors: Mapping[str, Stored]) -> None:
        """The tensors of a version that the store has, by name."""
        self._versions[version] = tensors

    def keep(self, versions: Iterable[int]) -> None:
        """Forget all but these versions and the newest few."""
        kept = {*versions, *sorted(self._versions)[-NEWEST:]}
        self._versions = {version: tensors for version, tensors in self._versions.items() if version in kept}

    def has(self, version: int) -> bool:
        """Whether the tensors of `version` are at hand."""
        return version in self._versions

    def suspect(self, tensors: Mapping[str, Stored]) -> None:
        """These were refused: by the store, or by whoever read them."""
        self.suspects |= {it.entry.digest for it in tensors.values()}

    def of(self, digest: str) -> Stored | None:
        """The tensor under `digest`, if it is at hand."""
        stored = (it for tensors in self._versions.values() for it in tensors.values())
        return next((it for it in stored if it.entry.digest == digest), None)
