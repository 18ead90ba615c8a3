"""Finds mixed answers: answers whose scores differ from the scores of the version that they name.

    answers topic, versions in the store --recompute each answer by its version and precision--> Recomputed

An answer is a function of its text, the version and the precision, and does not depend on the rest of its batch. So an
answer that a replica computed from two versions, during a swap, is found here. Versions that are no longer in the store
cannot be checked: a run that will be checked must keep all versions (`rollout.keep_versions`).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from model.encoders import config_from_json, packed
from model.packed import Inputs, PackedEncoder
from model.qtensor import QTensor, from_blob
from model.quantized import QuantizedHead, QuantizedModel
from model.ragged import RaggedBatch
from model.weights import encoder_key
from wire.errors import NotFound
from wire.records import Answer, TensorEntry, WeightManifest
from wire.store import Store

ROUNDING = 1e-5
"""Scores that differ by less count as equal: the processor that recomputes them may round differently."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recomputed:
    """The result of recomputing answers. All fields are numbers of answers."""

    answers: int
    """The answers that were recomputed."""
    mixed: int
    """The recomputed answers that are mixed."""
    gone: int
    """The answers that cannot be recomputed, because their version is no longer in the store."""
    encoders: tuple[int, ...]
    """The recomputed answers of each shape of encoder, in the order of the versions."""


class _Versions:
    """Loads versions. Versions with the same encoder share it in memory."""

    def __init__(self, store: Store, tokenizer: Inputs) -> None:
        self._store = store
        self._tokenizer = tokenizer
        self._tensors: dict[TensorEntry, QTensor] = {}
        self._encoders: dict[str, PackedEncoder] = {}

    def model(self, manifest: WeightManifest) -> QuantizedModel:
        config = config_from_json(manifest.config)
        tensors = {entry.name: self._tensor(entry) for entry in manifest.tensors}
        key = f"{config.without_labels.canonical_json()} {encoder_key(manifest.encoder_digests)}"
        if key not in self._encoders:
            self._encoders[key] = packed(config, tensors, self._tokenizer)
        return QuantizedModel(self._encoders[key], QuantizedHead.from_tensors(config, tensors), manifest.labels)

    def _tensor(self, entry: TensorEntry) -> QTensor:
        if entry not in self._tensors:
            self._tensors[entry] = from_blob(entry, self._store.blobs.get(entry.digest, entry.num_bytes))
        return self._tensors[entry]


def recompute(answers: Iterable[Answer], store: Store, tokenizer: Inputs) -> Recomputed:
    """Recomputes every answer and counts the differences."""
    by_version: dict[int, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_version[answer.weights_version].append(answer)
    versions = _Versions(store, tokenizer)
    num_mixed = 0
    num_gone = 0
    num_by_shape: dict[str, int] = {}
    for number in sorted(by_version):
        try:
            manifest = store.versions.manifest(number)
            model = versions.model(manifest)
        except NotFound:
            num_gone += len(by_version[number])
            continue
        shape = model.encoder.config.without_labels.canonical_json()
        num_by_shape[shape] = num_by_shape.get(shape, 0) + len(by_version[number])
        max_tokens = manifest.max_tokens or tokenizer.max_tokens
        for answer in by_version[number]:
            num_mixed += _differs(answer, _scores(model, answer, tokenizer, max_tokens))
    num_answers = sum(map(len, by_version.values())) - num_gone
    return Recomputed(answers=num_answers, mixed=num_mixed, gone=num_gone, encoders=tuple(num_by_shape.values()))


def _scores(model: QuantizedModel, answer: Answer, tokenizer: Inputs, max_tokens: int) -> dict[str, float]:
    """Returns the probability of every class."""
    if not model.labels:
        return {}
    token_ids = tokenizer.encode_many([answer.text], max_tokens=max_tokens)
    z_BD = model.encoder.encode(RaggedBatch.of(token_ids), answer.precision)
    probabilities_C = torch.softmax(model.head.logits(z_BD, len(model.labels)), dim=1)[0]
    return dict(zip(model.labels, probabilities_C.tolist(), strict=True))


def _differs(answer: Answer, scores: dict[str, float]) -> bool:
    """Returns whether an answer differs from the scores of its version."""
    if answer.label is None:
        return bool(scores)
    return any(abs(scores.get(label, -1.0) - score) > ROUNDING for label, score in answer.scores)
