"""Loads versions by their numbers: fetched, verified, packed, probed and timed beside the live ones, and keeps them.

    manifest (signed) -> spec -> missing blobs (digest) -> parts, shapes, finiteness -> packed -> probes -> times
        -> Version, in `versions` until `keep` drops it
    number --Manifests.read--> manifest and its signature, kept --replaced--> the numbers that name other versions now

Tensors are kept by their manifest entry, digest included, as long as a resident version needs them. A version that
changed only its head costs only the head: it shares the encoder object with the version before, the projection of its
head, and the embeddings of the probes. A version that lacks only damaged blobs keeps its other tensors, so that a
repair costs only the damaged ones.

A store that lost its last writes in a power cut has forgotten numbers, and may give one to another version. Whoever
still holds the first would answer with it for good. So signatures are compared, which is one small request; if one
differs, the manifests are.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog
import torch
from torch import Tensor

from model.encoders import config_from_json, precisions_in
from model.errors import BadTokens, UnreadableInput
from model.inputs import tokens_of
from model.kinds import tensors_of
from model.packed import EncoderConfig, Inputs, PackedEncoder, checked
from model.qtensor import QTensor, from_blob
from model.quantized import QuantizedHead, QuantizedModel
from model.ragged import RaggedBatch
from model.tokenizer import MAX_TOKENS
from serving.config import PrecisionConfig, RefusalConfig
from serving.errors import VersionRefused
from serving.models import AUTO, NOT_MEASURED, LatencyTable, Version, allowed_precisions
from serving.refusal import NO_REFUSALS, Refusal
from serving.weights.in_use import SharedWeights, WeightsInUse, key_of
from serving.weights.refusals import REASONS, LoadGuard, computing, refusing
from wire.errors import BadSignature, BlobCorrupt, NotFound, UnknownFormat, WireError
from wire.inputs import said_in
from wire.kinds import KINDS
from wire.records import Probe, TensorEntry, WeightManifest
from wire.store import Store, Versions

WARM_TEXT: Final = "a text of nobody, which is as long as most of them are"
WARM_BATCHES: Final = (1, 16, 1)
"""Numbers of texts by which a new encoder is warmed up."""

MAX_PROBES: Final = 64
"""Most embeddings of probes that are kept for one encoder; a manifest has four probes by default."""

log = structlog.get_logger("swap")


@dataclass(frozen=True, slots=True)
class _Shared:
    """What versions with the same encoder and projection share. Embeddings are by text, precision and length."""

    weights: SharedWeights
    z_D: dict[tuple[str, str, int], Tensor] = field(default_factory=dict)


class Loader:
    """Loads and keeps versions, in one thread. Without `names_encodings` no answer has the vector of its text.

    `weights` are those in use by the loaders of all tasks.
    """

    def __init__(
        self,
        store: Store,
        tokenizer: Inputs,
        *,
        precision: PrecisionConfig,
        probe_tolerance: float,
        names_encodings: bool = True,
        refusal: RefusalConfig = NO_REFUSALS,
        weights: WeightsInUse | None = None,
    ) -> None:
        self.versions: dict[int, Version] = {}  # the loaded ones, by number
        self._store = store
        self._tokenizer = tokenizer
        self._precision = precision
        self._probe_tolerance = probe_tolerance
        self._names_encodings = names_encodings
        self._refusal = refusal if refusal.is_on else None
        self._weights = weights or WeightsInUse()
        self._manifests = Manifests(store.versions)
        self._guard: LoadGuard | None = None
        self._tensors: dict[TensorEntry, QTensor] = {}
        self._shared: dict[str, _Shared] = {}

    def guarded_by(self, guard: LoadGuard) -> "Loader":
        """Returns this loader, which asks `guard` before it loads a new encoder."""
        self._guard = guard
        return self

    @contextmanager
    def reading(self, store: Store) -> Iterator[None]:
        """Loads from `store` until the block ends, such as from copies on disk."""
        usual = self._store
        self._store = store
        try:
            yield
        finally:
            self._store = usual

    @property
    def manifests(self) -> list[WeightManifest]:
        """The manifests of the loaded versions."""
        return [manifest for manifest in self._manifests if manifest.version in self.versions]

    @property
    def num_bytes(self) -> dict[str, int]:
        """The bytes of each version, by number, and of all tensors that are kept, each counted once (`resident`)."""
        sizes = {str(number): version.num_bytes for number, version in self.versions.items()}
        return sizes | {"resident": sum(entry.num_bytes for entry in self._tensors)}

    def load(self, number: int) -> Version:
        """Loads a version, ready to answer. Raises VersionRefused; StoreUnavailable and NotYet say nothing of it."""
        with refusing(), ExitStack() as loading:
            manifest = self._manifests.read(number, self._store.versions)
            tensors_of(KINDS.get(manifest.labelled.kind))
            config = self._checked_config(manifest)
            if self._guard is not None and (key := key_of(manifest)) not in self._shared:
                loading.enter_context(self._guard.loading(manifest, key))
            tensors = self._all_tensors(manifest)
            with computing():
                shared = self._shared_by(manifest, config, tensors)
                head = QuantizedHead.from_tensors(config, tensors, shared.weights.features)
                model = QuantizedModel(shared.weights.encoder, head, manifest.labels)
                self._check_probes(manifest, shared, head)
                latency = self._latency_of(manifest, shared.weights.encoder)
        max_tokens = manifest.max_tokens or MAX_TOKENS
        encoder = shared.weights.encoder
        self.versions[number] = Version(
            number=number,
            model=model,
            precisions=manifest.precisions,
            num_bytes=manifest.num_bytes,
            max_tokens=max_tokens,
            latency=latency,
            encoding=encoder.encoding(manifest.encoder_digests, max_tokens) if self._names_encodings else "",
            refusal=Refusal(self._refusal, manifest.certainty) if self._refusal else None,
            labelled=manifest.labelled,
        )
        return self.versions[number]

    def drop_replaced(self, numbers: Collection[int]) -> None:
        """Drops the loaded versions whose numbers name other versions now. Raises StoreUnavailable."""
        for number in self._manifests.replaced([number for number in numbers if number in self.versions]):
            del self.versions[number]
            log.warning("number_used_again", version=number)

    def clear(self) -> None:
        """Drops every version. Their tensors stay, by digest."""
        self.versions = {}

    def keep(self, numbers: Collection[int]) -> None:
        """Drops every other version, and every tensor that none of these names, be it loaded or incomplete."""
        self.versions = {number: version for number, version in self.versions.items() if number in numbers}
        self._manifests.keep(numbers)
        entries = self._manifests.entries
        keys = set(map(key_of, self._manifests))
        self._tensors = {entry: tensor for entry, tensor in self._tensors.items() if entry in entries}
        self._shared = {key: shared for key, shared in self._shared.items() if key in keys}

    def _checked_config(self, manifest: WeightManifest) -> EncoderConfig:
        config = config_from_json(manifest.config)
        names = [precision.name for precision in manifest.precisions]
        expected = precisions_in(config, {entry.name: entry.scheme for entry in manifest.tensors})
        if not names or not set(names) <= set(expected):
            raise VersionRefused("wrong_precision", f"measured in {names}; expected some of {', '.join(expected)}")
        spec = config.spec_hash(self._tokenizer.digest)
        if spec != manifest.model_spec:
            made_for = f"{config.shown} ({manifest.model_spec})"
            raise VersionRefused("wrong_spec", f"made for {made_for}; `encoder` names {self._tokenizer.name} ({spec})")
        return config

    def _all_tensors(self, manifest: WeightManifest) -> dict[str, QTensor]:
        """Returns the tensors by name. Raises VersionRefused with every damaged or missing blob; others are kept."""
        tensors: dict[str, QTensor] = {}
        lacking: dict[str, WireError] = {}
        for entry in manifest.tensors:
            try:
                tensors[entry.name] = self._tensor(entry)
            except (BlobCorrupt, NotFound) as error:
                lacking[entry.digest] = error
        if lacking:
            first = next(iter(lacking.values()))
            raise VersionRefused(REASONS[type(first)], str(first), damaged=tuple(lacking))
        return tensors

    def _tensor(self, entry: TensorEntry) -> QTensor:
        if entry not in self._tensors:
            self._tensors[entry] = from_blob(entry, self._store.blobs.get(entry.digest, entry.num_bytes))
        return self._tensors[entry]

    def _shared_by(self, manifest: WeightManifest, config: EncoderConfig, tensors: Mapping[str, QTensor]) -> _Shared:
        key = key_of(manifest)
        if key not in self._shared:
            weights = self._weights.of(manifest, config, tensors, self._tokenizer)
            self._warm(weights.encoder, manifest)
            self._shared[key] = _Shared(weights)
        return self._shared[key]

    def _warm(self, encoder: PackedEncoder, manifest: WeightManifest) -> None:
        """Encodes texts by a new encoder, so that its first answers take no longer than later ones."""
        max_tokens = manifest.max_tokens or MAX_TOKENS
        with suppress(UnreadableInput, BadTokens):
            for num_texts in WARM_BATCHES:
                texts = [WARM_TEXT] * num_texts
                encode_contents(texts, encoder, self._tokenizer, manifest.precisions[0].name, max_tokens)

    def _check_probes(self, manifest: WeightManifest, shared: _Shared, head: QuantizedHead) -> None:
        """Raises VersionRefused unless this machine computes the logits that the learner computed."""
        if not manifest.probes:
            return
        max_tokens = manifest.max_tokens or MAX_TOKENS
        z_BD = self._probe_embeddings(shared, manifest.probes, manifest.precisions[0].name, max_tokens)
        logits_BC = head.logits(z_BD, len(manifest.labels))
        for probe, logits_C in zip(manifest.probes, logits_BC, strict=True):
            self._check_probe(probe, logits_C)

    def _probe_embeddings(self, shared: _Shared, probes: Sequence[Probe], precision: str, max_tokens: int) -> Tensor:
        """Returns z_BD of the probes' texts, of which those that are not known yet are encoded together."""
        keys = [(probe.text, precision, max_tokens) for probe in probes]
        unknown = [key for key in dict.fromkeys(keys) if key not in shared.z_D]
        if len(shared.z_D) + len(unknown) > MAX_PROBES:
            shared.z_D.clear()
            unknown = list(dict.fromkeys(keys))
        if unknown:
            contents = [content for content, *_ in unknown]
            z_BD = encode_contents(contents, shared.weights.encoder, self._tokenizer, precision, max_tokens)
            shared.z_D.update(zip(unknown, z_BD, strict=True))
        return torch.stack([shared.z_D[key] for key in keys])

    def _check_probe(self, probe: Probe, logits_C: Tensor) -> None:
        """Raises VersionRefused unless the logits equal the learner's, up to the rounding of this processor."""
        stated_C = torch.tensor(probe.logits, dtype=torch.float64)
        if logits_C.shape != stated_C.shape:
            raise VersionRefused("probe_mismatch", f"{len(logits_C)} logits; the learner saw {len(stated_C)}")
        if not len(stated_C):
            return
        gap = (logits_C - stated_C).abs().max().item()
        rounding = self._probe_tolerance * max(1.0, stated_C.abs().max().item())
        if not gap <= rounding:  # written so that a NaN is refused
            raise VersionRefused("probe_mismatch", f"logits differ by {gap:.4g}; at most {rounding:.4g} is rounding")

    def _latency_of(self, manifest: WeightManifest, encoder: PackedEncoder) -> LatencyTable:
        """Returns the times of its precisions, if it has a choice."""
        names = allowed_precisions(manifest.precisions, self._precision, is_brown_out=True)
        if self._precision.mode not in (AUTO, *names):
            log.warning("precision_not_allowed", version=manifest.version, mode=self._precision.mode, used=names[0])
        if len(names) == 1:
            return NOT_MEASURED
        return self._weights.times_of(encoder, names, self._tokenizer)


def encode_contents(
    contents: Sequence[str], encoder: PackedEncoder, tokenizer: Inputs, precision: str, max_tokens: int
) -> Tensor:
    """Returns z_BD of the contents of events (`wire.inputs`), as `serving.encodings` does of events."""
    said = [said_in(content) for content in contents]
    token_ids = tokens_of(said, tokenizer, max_tokens)
    z_BD = checked(encoder.encode(RaggedBatch.of(token_ids), precision), len(contents), encoder.config)
    return encoder.inputs.joined(z_BD, said)


class Manifests:
    """Belongs to a loader. Verbs: read, replaced, keep."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._manifests: dict[int, WeightManifest] = {}
        self._signatures: dict[int, bytes | None] = {}

    @property
    def entries(self) -> set[TensorEntry]:
        """The tensors that the manifests name."""
        return {entry for manifest in self for entry in manifest.tensors}

    def read(self, number: int, versions: Versions) -> WeightManifest:
        """Returns the manifest that `versions` has, and keeps it. Raises what `Versions.manifest` raises."""
        signatures = versions.signatures([number])
        self._manifests[number] = versions.manifest(number)
        self._signatures |= signatures
        return self._manifests[number]

    def replaced(self, numbers: Collection[int]) -> list[int]:
        """Returns those of the kept numbers that name another version now. Raises StoreUnavailable.

        A manifest that was removed, or that cannot be read, takes the place of nothing.
        """
        kept = [number for number in numbers if number in self._manifests]
        found: list[int] = []
        for number, signature in self._versions.signatures(kept).items():
            if signature in (None, self._signatures[number]):
                continue
            with suppress(NotFound, BadSignature, UnknownFormat, BlobCorrupt):
                if self._versions.manifest(number) == self._manifests[number]:
                    # It was signed anew.
                    self._signatures[number] = signature
                else:
                    found.append(number)
        return found

    def keep(self, numbers: Collection[int]) -> None:
        """Drops every other manifest."""
        self._manifests = {number: self._manifests[number] for number in self._manifests.keys() & set(numbers)}
        self._signatures = {number: self._signatures[number] for number in self._manifests}

    def __iter__(self) -> Iterator[WeightManifest]:
        return iter(self._manifests.values())
