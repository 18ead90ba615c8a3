"""Finds the head of the version that candidates are compared with: the fixed reference of the rollout plan.

    plan.reference, encoder in use --another than before--> manifest, head from the store --> Reference, or none

The plan is read for each publication: a version that was compared with another reference than that of the plan in force
is not made stable at once.

A reference under another encoder is none: what it names is not known without encoding everything twice.
"""

import structlog

from learner.knowledge import Knowledge
from learner.quality.name_changes import Reference
from learner.release.candidate import CandidateMaker
from wire.errors import StoreUnavailable, WireError
from wire.store import Store

log = structlog.get_logger("learner")


class ReferenceFinder:
    """Reads the plan each time, and the head only where another version, or another encoder, is wanted."""

    def __init__(self, store: Store, maker: CandidateMaker) -> None:
        self._store = store
        self._maker = maker
        self._wanted = (0, "")
        self._found: Reference | None = None

    def find(self, known: Knowledge) -> Reference | None:
        """Returns the reference of the plan in force, if it has the encoder of `known`. Raises StoreUnavailable."""
        try:
            plan = self._store.plans.read()
            wanted = (plan.reference if plan else 0, known.fast_head.served.key)
            if wanted != self._wanted:
                self._wanted = wanted
                self._found = None
                self._found = self._load(wanted[0], known)
        except WireError as error:
            if self._found is not None:
                log.warning("no_reference", reason=str(error))
            self._found = None
            self._wanted = (0, "")
            if isinstance(error, StoreUnavailable):
                raise
        return self._found

    def _load(self, number: int, known: Knowledge) -> Reference | None:
        if not number:
            return None
        found = self._maker.stored(self._store.versions.manifest(number), known, self._store.blobs)
        return None if found is None else Reference(number, found.version)
