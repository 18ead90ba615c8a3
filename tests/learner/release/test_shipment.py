"""What the store gets: the blobs that it lacks, and a manifest from which a replica reads the same model."""

from pathlib import Path

import pytest

from model.config import StrataConfig
from model.qtensor import from_blob
from model.quantized import QuantizedModel
from model.ragged import RaggedBatch
from tests.learner.publishing import PublishRig
from tests.learner.small import tokenizer
from wire.store import Store

pytestmark = pytest.mark.live


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> PublishRig:
    return PublishRig(store, tmp_path)


def test_new_labels_make_a_version_that_sends_only_the_head(bench: PublishRig) -> None:
    bench.publish()
    bench.learn(0, 60)
    assert bench.publish() == 2
    first = bench.store.manifest(1)
    second = bench.store.manifest(2)
    assert [a.name for a, b in zip(first.tensors, second.tensors, strict=True) if a != b] == ["head.out"]
    assert second.labels == bench.learner.tier.head.classes and second.trained_through == {"feedback.v1/0": 60}
    assert second.evaluation.accuracy > second.evaluation.parent_accuracy == 0.0
    assert second.model_spec == bench.learner.model_spec and second.max_tokens == tokenizer().max_tokens
    assert {entry.digest for entry in second.tensors} == bench.store.has_blobs(e.digest for e in second.tensors)


def test_a_replica_reads_what_the_learner_measured(bench: PublishRig) -> None:
    bench.publish()
    bench.learn(0, 60)
    manifest = bench.store.manifest(bench.publish())
    tensors = {e.name: from_blob(e, bench.store.get_blob(e.digest, e.num_bytes)) for e in manifest.tensors}
    model = QuantizedModel.from_tensors(StrataConfig.from_json(manifest.config), tensors, labels=manifest.labels)
    batch = RaggedBatch.of(tokenizer().encode_many([probe.text for probe in manifest.probes]))
    assert [tuple(row) for row in model.predict(batch).tolist()] == [probe.logits for probe in manifest.probes]
