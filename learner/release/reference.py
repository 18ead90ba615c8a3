"""Finds the head of the version that candidates are compared with: the fixed reference of the rollout plan.

    plan.reference, encoder in use --another than before--> manifest, head from the store --> Reference, or none

A reference under another encoder is none: what it names is not known without encoding everything twice.
"""

import structlog

from learner.knowledge import Knowledge
from learner.quality.changes import Reference
from learner.release.candidate import CandidateMaker
from wire.errors import StoreUnavailable, WireError
from wire.store import Store

log = structlog.get_logger("learner")


class ReferenceFinder:
    """Asks the store only where another version, or another encoder, is wanted."""

    def __init__(self, store: Store, maker: CandidateMaker) -> None:
        self._store = store
        self._maker = maker
        self._wanted = (0, "")
        self._found: Reference | None = None

    def find(self, number: int, known: Knowledge) -> Reference | None:
        """Returns the version with this number, if it has the encoder of `known`. Raises StoreUnavailable."""
        wanted = (number, known.fast_head.served.key)
        if wanted != self._wanted:
            self._found = self._load(number, known) if number else None
            self._wanted = wanted
        return self._found

    def _load(self, number: int, known: Knowledge) -> Reference | None:
        try:
            found = self._maker.stored(self._store.versions.manifest(number), known, self._store.blobs)
        except StoreUnavailable:
            raise
        except WireError as error:
            log.warning("no_reference", version=number, reason=str(error))
            return None
        return None if found is None else Reference(number, found.version)
