"""Versions of small weights for the tests: a real encoder of two narrow blocks under MiniLM's tokenizer, real heads."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec
import torch

from model.config import MINILM_L6, StrataConfig
from model.head import out_weight, proj_weight
from model.qtensor import QTensor
from model.quantized import QuantizedEncoder, QuantizedHead, QuantizedModel
from model.ragged import RaggedBatch
from model.strata import Strata
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors
from serving.models import ActiveVersions, Version
from tests.model.small_encoder import model_logits
from wire.receipts import Receipts
from wire.records import (
    CANDIDATE,
    STABLE,
    Arm,
    Evaluation,
    PrecisionEvaluation,
    Probe,
    RolloutPlan,
    TensorEntry,
    TensorPart,
    WeightManifest,
)
from wire.store import Lease, Store

TINY = replace(MINILM_L6, d_model=64, n_layers=2, n_heads=4, d_ff=128, head_features=64, label_capacity=8)
PRECISIONS = (PrecisionEvaluation(name="int8"), PrecisionEvaluation(name="int4"))
RECEIPTS = Receipts(b"a key for tests")
PROBE_TEXTS = ("where is my card", "a second, somewhat longer text about nothing at all")


@cache
def tokenizer() -> TextTokenizer:
    return TextTokenizer.from_encoder("minilm-l6")


@cache
def encoder_weights(seed: int = 0, config: StrataConfig = TINY) -> dict[str, QTensor]:
    """Returns the stored weights of an encoder that is random, not trained."""
    torch.manual_seed(seed)
    strata = Strata(config)
    for parameter in strata.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder_tensors(strata)


def make_labels(number: int) -> tuple[str, ...]:
    """Returns labels that name the version."""
    return tuple(f"v{number}.{index}" for index in range(4))


@cache
def version_weights(number: int, *, encoder_seed: int = 0) -> dict[str, QTensor]:
    """Returns all weights of version `number`: only the head depends on it."""
    torch.manual_seed(1_000 + number)
    out = out_weight(TINY, torch.randn(4, TINY.head_features), torch.zeros(4))
    return {**encoder_weights(encoder_seed), "head.proj": proj_weight(TINY), "head.out": out}


@cache
def build_encoder(seed: int = 0) -> QuantizedEncoder:
    return QuantizedEncoder.from_tensors(TINY, encoder_weights(seed))


@cache
def make_model(number: int, *, encoder_seed: int = 0) -> QuantizedModel:
    """Returns the model of version `number`; versions of the same seed share their encoder."""
    head = QuantizedHead.from_tensors(TINY, version_weights(number, encoder_seed=encoder_seed))
    return QuantizedModel(build_encoder(encoder_seed), head, make_labels(number))


def head_logits(model: QuantizedModel, text: str) -> tuple[float, ...]:
    logits_C = model_logits(model, RaggedBatch.of(tokenizer().encode_many([text])))[0]
    return tuple(logits_C.tolist())


@cache
def label_of(number: int, text: str, *, encoder_seed: int = 0) -> str:
    """Returns the answer of version `number`."""
    logits = head_logits(make_model(number, encoder_seed=encoder_seed), text)
    return make_labels(number)[max(range(len(logits)), key=logits.__getitem__)]


def build_manifest(number: int, *, parent: int | None = None, encoder_seed: int = 0, **changes: Any) -> WeightManifest:
    """Returns the manifest of version `number`, with some fields changed."""
    weights = version_weights(number, encoder_seed=encoder_seed)
    model = make_model(number, encoder_seed=encoder_seed)
    manifest = WeightManifest(
        version=number,
        parent=number - 1 if parent is None else parent,
        model_spec=TINY.spec_hash(tokenizer().digest),
        config=TINY.canonical_json(),
        labels=make_labels(number),
        precisions=PRECISIONS,
        tensors=tuple(make_entry(tensor) for tensor in weights.values()),
        probes=tuple(Probe(text=text, logits=head_logits(model, text)) for text in PROBE_TEXTS),
        trained_through={},
        evaluation=Evaluation(num_labels=4),
        epoch=0,
        created_ms=1,
    )
    return msgspec.structs.replace(manifest, **changes)


def make_entry(tensor: QTensor, blob: bytes | None = None) -> TensorEntry:
    data = tensor.to_blob() if blob is None else blob
    parts = tuple(TensorPart(name=part.name, dtype=part.dtype, shape=part.shape) for part in tensor.specs)
    return TensorEntry(
        name=tensor.name, scheme=tensor.scheme, digest=sha256(data).hexdigest(), num_bytes=len(data), parts=parts
    )


class TinyPublisher:
    """Publishes versions and writes plans, as the learner and the rollout controller do."""

    def __init__(self, store: Store) -> None:
        lease = store.leases.acquire("learner", "test", 60_000)
        assert lease is not None
        self.store = store
        self.lease: Lease = lease

    def publish(
        self, number: int, *, encoder_seed: int = 0, blobs: Iterable[bytes] = (), **changes: Any
    ) -> WeightManifest:
        """Publishes version `number`. `blobs` are stored besides its own, for manifests that were changed to name
        others."""
        for tensor in version_weights(number, encoder_seed=encoder_seed).values():
            self.store.blobs.put(tensor.to_blob())
        for blob in blobs:
            self.store.blobs.put(blob)
        manifest = build_manifest(
            number, parent=self.store.versions.current(), encoder_seed=encoder_seed, epoch=self.lease.epoch, **changes
        )
        self.store.versions.publish(manifest, self.lease)
        return manifest

    def plan(self, stable: int, candidate: int = 0, *, share: float = 0.5, previous: int = 0) -> RolloutPlan:
        """Puts the next plan in force."""
        before = self.store.plans.read()
        plan = build_plan(
            stable, candidate, share=share, previous=previous, revision=before.revision + 1 if before else 1
        )
        self.store.plans.write(plan)
        return plan


def build_plan(
    stable: int, candidate: int = 0, *, share: float = 0.5, previous: int = 0, revision: int = 1
) -> RolloutPlan:
    arms = [Arm(name=STABLE, version=stable, share=1 - share if candidate else 1.0)]
    if candidate:
        arms.append(Arm(name=CANDIDATE, version=candidate, share=share))
    return RolloutPlan(revision=revision, salt="salt", arms=tuple(arms), previous=previous)


def live_versions(numbers: Sequence[int], *, number: int = 1, share: float = 0.5) -> ActiveVersions:
    """Returns one or two versions that share an encoder, each for half of the entities."""
    versions = {
        each: Version(number=each, model=make_model(each), precisions=PRECISIONS, num_bytes=1) for each in numbers
    }
    return ActiveVersions(number=number, plan=build_plan(*numbers, share=share, revision=number), versions=versions)
