"""Finds what candidates are compared with: the fixed reference of the rollout plan.

    plan.reference, encoder in use --another than before--> manifest, head from the store --> its head
                                   --the encoder is a new one--> which holdout samples it named rightly before

The plan is read for each publication: a version that was compared with another reference than that of the plan in force
is not made stable at once.

A reference whose encoder has other scales of numbers, and is the same otherwise, is read under its own scales.

A reference with another encoder than the one in use cannot name a text without encoding it anew. But the first version
with a new encoder is compared with its parent, whose encoder is mostly the reference's, and so each holdout sample is
known under that one, too. Then the reference is asked for what it names rightly, and that is kept, by the hashes of the
samples, until the plan has another reference. Samples that come later are not known of it. That its encoder is the one
before stays known of every reference that has it: the trial of the new encoder was beside that.

Rejected: keeping it in the checkpoint. After a restart the parent is made again, and asked by; what is lost is the
comparison of later versions with the same encoder, which labels decide on.
"""

import msgspec
import structlog

from learner.export import ServedEncoder
from learner.knowledge import Knowledge
from learner.quality.recent_events import NO_SAMPLES, Reference
from learner.release.candidate import CandidateMaker, has_encoder
from learner.release.tensors import stored_tensor
from model.features import SCALES
from wire.errors import StoreUnavailable, WireError
from wire.records import WeightManifest
from wire.store import Blobs, Store

log = structlog.get_logger("learner")


class ReferenceFinder:
    """Reads the plan each time, and the head only where another version, or another encoder, is wanted."""

    def __init__(self, store: Store, maker: CandidateMaker) -> None:
        self._store = store
        self._maker = maker
        self._wanted = (0, "")
        self._found: Reference | None = None
        self._held = NO_SAMPLES
        self._before: ServedEncoder | None = None

    def find(self, known: Knowledge) -> Reference | None:
        """Returns the reference of the plan in force: as a version if it has the encoder of `known`, else by the
        holdout samples that it named rightly, if these are known. Raises StoreUnavailable."""
        try:
            plan = self._store.plans.read()
            wanted = (plan.reference if plan else 0, known.fast_head.served.key)
            self._note_encoder_before(known)
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

    @property
    def is_settled(self) -> bool:
        """Whether the reference has the encoder in use, unless nothing is known of it."""
        return self._found is None or self._found.version is not None

    def forget(self) -> None:
        """Forgets the reference, and the hashes of samples with it: somebody was erased."""
        self._wanted = (0, "")
        self._found = None
        self._held = NO_SAMPLES
        self._before = None

    def _load(self, number: int, known: Knowledge) -> Reference | None:
        if not number:
            return None
        manifest = self._store.versions.manifest(number)
        served = _under_scales_of(manifest, known.fast_head.served, self._store.blobs)
        found = self._maker.stored(manifest, known, self._store.blobs, served=served)
        if found is not None:
            self._before = None
            return Reference(number, found.version)
        encoder = self._before.key if self._before is not None and has_encoder(manifest, self._before) else ""
        parent = self._maker.parent
        if encoder and parent is not None and parent.version.served is self._before:
            named = self._maker.stored(manifest, known, self._store.blobs, served=self._before)
            if named is not None:
                self._held = msgspec.structs.replace(named.measured.record, version=number)
        held = self._held if self._held.version == number else NO_SAMPLES
        return Reference(number, None, encoder, held) if encoder or held is not NO_SAMPLES else None

    def _note_encoder_before(self, known: Knowledge) -> None:
        parent = self._maker.parent
        if parent is not None and parent.version.served.key != known.fast_head.served.key:
            self._before = parent.version.served


def _under_scales_of(manifest: WeightManifest, served: ServedEncoder, blobs: Blobs) -> ServedEncoder:
    """Returns an encoder with the scales of numbers that a version has. Raises NotFound, BlobCorrupt."""
    own = served.tensors.get(SCALES)
    digest = manifest.encoder_digests.get(SCALES)
    if (own and own.entry.digest) == digest:
        return served
    return served.with_scales(stored_tensor(manifest, SCALES, blobs))
