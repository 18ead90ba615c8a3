"""What goes to the store for a candidate: the blobs that it lacks, and the manifest that names them all."""

from learner.failpoints import failpoint
from learner.learner import Learner
from learner.release.candidate import Candidate
from wire.records import WeightManifest
from wire.store import Store


def manifest_of(candidate: Candidate, learner: Learner, *, version: int, epoch: int, time_ms: int) -> WeightManifest:
    """`candidate` as `version`, learnt on from the learner's."""
    return WeightManifest(
        version=version,
        parent=learner.version,
        model_spec=learner.model_spec,
        config=candidate.version.served.config.canonical_json(),
        labels=candidate.version.classes,
        precisions=candidate.precisions,
        tensors=tuple(candidate.tensors[name].entry for name in sorted(candidate.tensors)),
        probes=candidate.probes,
        trained_through=dict(learner.offsets),
        evaluation=candidate.measured.evaluation,
        epoch=epoch,
        created_ms=time_ms,
        erased=len(learner.erased),
        lineage=learner.lineage,
        max_tokens=candidate.version.served.tokenizer.max_tokens,
    )


def put_blobs(candidate: Candidate, store: Store) -> None:
    """Send the blobs that the store does not have."""
    digests = {it.entry.digest: it for it in candidate.tensors.values()}
    for digest in digests.keys() - store.has_blobs(digests):
        store.put_blob(digests[digest].tensor.to_blob())
        failpoint("after-blob")
