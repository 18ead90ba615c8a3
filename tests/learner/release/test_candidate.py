"""Tests that the store gets the blobs that it lacks, and a manifest from which a replica loads the same model."""

import pytest

from model.config import StrataConfig
from model.qtensor import from_blob
from model.quantized import QuantizedModel
from model.ragged import RaggedBatch
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import tokenizer
from tests.model.small_encoder import model_logits

pytestmark = pytest.mark.live


def test_new_labels_make_a_version_that_sends_only_the_head(rig: PublishRig) -> None:
    rig.publish()
    rig.learn(0, 60)
    assert rig.publish() == 2
    first = rig.store.versions.manifest(1)
    second = rig.store.versions.manifest(2)
    pairs = zip(first.tensors, second.tensors, strict=True)
    assert [entry.name for entry, other in pairs if entry != other] == ["head.out"]
    assert second.labels == rig.learner.fast_head.ridge.classes and second.trained_through == {"feedback.v1/0": 60}
    assert second.evaluation.parent_accuracy == 0.0
    assert second.evaluation.accuracy > 0.0
    assert second.model_spec == rig.learner.knowledge.base.spec_for(8) and second.max_tokens == tokenizer().max_tokens
    digests = {entry.digest for entry in second.tensors}
    assert rig.store.blobs.has(digests) == digests


def test_a_replica_reads_what_the_learner_measured(rig: PublishRig) -> None:
    rig.publish()
    rig.learn(0, 60)
    manifest = rig.store.versions.manifest(rig.publish())
    tensors = {}
    for entry in manifest.tensors:
        tensors[entry.name] = from_blob(entry, rig.store.blobs.get(entry.digest, entry.num_bytes))
    model = QuantizedModel.from_tensors(StrataConfig.from_json(manifest.config), tensors, labels=manifest.labels)
    batch = RaggedBatch.of(tokenizer().encode_many([probe.text for probe in manifest.probes]))
    assert [tuple(row) for row in model_logits(model, batch).tolist()] == [probe.logits for probe in manifest.probes]
