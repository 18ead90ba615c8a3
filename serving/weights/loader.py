"""Loads versions while the live versions answer: fetches, verifies, packs, probes and times them, and keeps them in
memory.

    manifest (signed) -> spec -> missing blobs (digest) -> parts, shapes, finiteness -> packed -> probes -> times
        -> Version, in `versions` until `keep` drops it
    number --Manifests.read--> manifest and signature, kept --find_replaced--> numbers that name other versions now

**Sharing.** Tensors are kept by their manifest entries, which include the digests, as long as a loaded version needs
them. If a version differs from the previous one only in its head, only the head is loaded: it shares the encoder
object, the random projection, and the embeddings of the probes. If some blobs of a version are damaged, its other
tensors are kept, so after a repair only the repaired blobs are fetched.

**Reused numbers.** If a store loses its last writes in a power cut, it forgets the latest version numbers, and may give
the same number to another version. A replica that has loaded the earlier version would answer with it for ever. So the
loader compares the signatures of the manifests, which is one small request. Only if a signature differs, it compares
the manifests.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog
import torch
from torch import Tensor

from model.encoders import config_from_json, runnable_precisions
from model.errors import BadTokens, UnreadableInput
from model.inputs import tokenize_contents
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
from serving.weights.in_use import SharedWeights, WeightsInUse, sharing_key
from serving.weights.refusals import REASONS, LoadGuard, map_compute_errors, map_load_errors
from wire.errors import BadSignature, BlobCorrupt, NotFound, UnknownFormat, WireError
from wire.inputs import parse_content
from wire.kinds import KINDS
from wire.records import Probe, TensorEntry, WeightManifest
from wire.store import Store, Versions

WARM_TEXT: Final = "a text of nobody, which is as long as most of them are"
WARM_BATCHES: Final = (1, 16, 1)
"""The number of texts in each batch with which a new encoder is warmed up."""

MAX_PROBES: Final = 64
"""Most probe embeddings that are kept for one encoder. A manifest has four probes by default."""

log = structlog.get_logger("swap")


@dataclass(frozen=True, slots=True)
class _Shared:
    """The parts that versions with the same encoder and random projection share.

    `z_D` has the embeddings of the probes, by text, precision and length limit.
    """

    weights: SharedWeights
    z_D: dict[tuple[str, str, int], Tensor] = field(default_factory=dict)


class Loader:
    """Loads and keeps versions, in one thread.

    - `versions`: the loaded versions, by number
    - `names_encodings`: whether encodings get names; without a name, answers do not contain vectors
    - `weights`: the packed weights that the loaders of all tasks share
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
        self.versions: dict[int, Version] = {}
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

    def with_guard(self, guard: LoadGuard) -> "Loader":
        """Makes the loader ask `guard` for permission before it loads a new encoder. Returns this loader."""
        self._guard = guard
        return self

    @contextmanager
    def reading(self, store: Store) -> Iterator[None]:
        """Loads from `store`, for example the copies on disk, until the block ends."""
        previous = self._store
        self._store = store
        try:
            yield
        finally:
            self._store = previous

    @property
    def manifests(self) -> list[WeightManifest]:
        """The manifests of the loaded versions."""
        return [manifest for manifest in self._manifests if manifest.version in self.versions]

    @property
    def num_bytes(self) -> dict[str, int]:
        """The bytes of each version by number, and of all kept tensors (`resident`), each counted once."""
        sizes = {str(number): version.num_bytes for number, version in self.versions.items()}
        return sizes | {"resident": sum(entry.num_bytes for entry in self._tensors)}

    def load(self, number: int) -> Version:
        """Loads a version, so that it is ready to answer.

        Raises VersionRefused if the version must not answer. Raises StoreUnavailable or NotYet if it may be loaded
        later.
        """
        with map_load_errors(), ExitStack() as loading:
            manifest = self._manifests.read(number, self._store.versions)
            # An unknown kind of labels is refused before any blob is fetched.
            tensors_of(KINDS.get(manifest.labelled.kind))
            config = self._checked_config(manifest)
            # Only an encoder that this process does not hold yet is dangerous, and large.
            if self._guard is not None and (key := sharing_key(manifest)) not in self._shared:
                loading.enter_context(self._guard.loading(manifest, key))
            tensors = self._all_tensors(manifest)
            with map_compute_errors():
                shared = self._shared_parts(manifest, config, tensors)
                head = QuantizedHead.from_tensors(config, tensors, shared.weights.features)
                model = QuantizedModel(shared.weights.encoder, head, manifest.labels)
                self._check_probes(manifest, shared, head)
                latency = self._latency(manifest, shared.weights.encoder)
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
        """Drops the loaded versions among `numbers` whose numbers name other versions now. Raises StoreUnavailable."""
        for number in self._manifests.find_replaced([number for number in numbers if number in self.versions]):
            del self.versions[number]
            log.warning("number_used_again", version=number)

    def clear(self) -> None:
        """Drops every version. Their tensors stay, because digests identify them."""
        self.versions = {}

    def keep(self, numbers: Collection[int]) -> None:
        """Drops all versions except `numbers`, and every tensor that no manifest of `numbers` names.

        If a version among `numbers` could not be loaded because blobs are damaged, its other tensors are kept, too.
        """
        self.versions = {number: version for number, version in self.versions.items() if number in numbers}
        self._manifests.keep(numbers)
        entries = self._manifests.entries
        keys = set(map(sharing_key, self._manifests))
        self._tensors = {entry: tensor for entry, tensor in self._tensors.items() if entry in entries}
        self._shared = {key: shared for key, shared in self._shared.items() if key in keys}

    def _checked_config(self, manifest: WeightManifest) -> EncoderConfig:
        config = config_from_json(manifest.config)
        names = [precision.name for precision in manifest.precisions]
        expected = runnable_precisions(config, {entry.name: entry.scheme for entry in manifest.tensors})
        if not names or not set(names) <= set(expected):
            raise VersionRefused("wrong_precision", f"measured in {names}, but it can run in {', '.join(expected)}")
        spec = config.spec_hash(self._tokenizer.digest)
        if spec != manifest.model_spec:
            made_for = f"{config.shown} ({manifest.model_spec})"
            raise VersionRefused("wrong_spec", f"made for {made_for}; `encoder` names {self._tokenizer.name} ({spec})")
        return config

    def _all_tensors(self, manifest: WeightManifest) -> dict[str, QTensor]:
        """Returns the version's tensors by name.

        Raises VersionRefused, with the digest of every damaged or missing blob. The other tensors are kept even then.
        """
        tensors: dict[str, QTensor] = {}
        damaged: dict[str, WireError] = {}
        for entry in manifest.tensors:
            try:
                tensors[entry.name] = self._tensor(entry)
            except (BlobCorrupt, NotFound) as error:
                damaged[entry.digest] = error
        if damaged:
            first = next(iter(damaged.values()))
            raise VersionRefused(REASONS[type(first)], str(first), damaged=tuple(damaged))
        return tensors

    def _tensor(self, entry: TensorEntry) -> QTensor:
        if entry not in self._tensors:
            self._tensors[entry] = from_blob(entry, self._store.blobs.get(entry.digest, entry.num_bytes))
        return self._tensors[entry]

    def _shared_parts(self, manifest: WeightManifest, config: EncoderConfig, tensors: Mapping[str, QTensor]) -> _Shared:
        key = sharing_key(manifest)
        if key not in self._shared:
            weights = self._weights.get(manifest, config, tensors, self._tokenizer)
            self._warm(weights.encoder, manifest)
            self._shared[key] = _Shared(weights)
        return self._shared[key]

    def _warm(self, encoder: PackedEncoder, manifest: WeightManifest) -> None:
        """Encodes some texts with a new encoder, so that its first answers take no longer than later ones."""
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
        """Returns the embeddings of the probes' texts, z_BD. Encodes all new texts in one batch."""
        keys = [(probe.text, precision, max_tokens) for probe in probes]
        new = [key for key in dict.fromkeys(keys) if key not in shared.z_D]
        # Dropping all embeddings is simpler than an order of eviction, and rare.
        if len(shared.z_D) + len(new) > MAX_PROBES:
            shared.z_D.clear()
            new = list(dict.fromkeys(keys))
        if new:
            contents = [content for content, *_ in new]
            z_BD = encode_contents(contents, shared.weights.encoder, self._tokenizer, precision, max_tokens)
            shared.z_D.update(zip(new, z_BD, strict=True))
        return torch.stack([shared.z_D[key] for key in keys])

    def _check_probe(self, probe: Probe, logits_C: Tensor) -> None:
        """Raises VersionRefused unless the logits equal the learner's, up to the rounding of this processor."""
        stated_C = torch.tensor(probe.logits, dtype=torch.float64)
        if logits_C.shape != stated_C.shape:
            raise VersionRefused("probe_mismatch", f"{len(logits_C)} logits, but the learner computed {len(stated_C)}")
        if not len(stated_C):
            return
        gap = (logits_C - stated_C).abs().max().item()
        rounding = self._probe_tolerance * max(1.0, stated_C.abs().max().item())
        # `not <=` instead of `>`, so that a NaN is refused.
        if not gap <= rounding:
            reason = f"logits differ by {gap:.4g}; rounding explains at most {rounding:.4g}"
            raise VersionRefused("probe_mismatch", reason)

    def _latency(self, manifest: WeightManifest, encoder: PackedEncoder) -> LatencyTable:
        """Returns the batch times of the version's precisions; NOT_MEASURED if only one precision may answer."""
        names = allowed_precisions(manifest.precisions, self._precision, is_brown_out=True)
        if self._precision.mode not in (AUTO, *names):
            log.warning("precision_not_allowed", version=manifest.version, mode=self._precision.mode, used=names[0])
        if len(names) == 1:
            return NOT_MEASURED
        return self._weights.latency(encoder, names, self._tokenizer)


def encode_contents(
    contents: Sequence[str], encoder: PackedEncoder, tokenizer: Inputs, precision: str, max_tokens: int
) -> Tensor:
    """Returns the vectors z_BD of events' contents (`wire.inputs`), computed as `serving.encodings` does for events."""
    inputs = [parse_content(content) for content in contents]
    token_ids = tokenize_contents(inputs, tokenizer, max_tokens)
    z_BD = checked(encoder.encode(RaggedBatch.of(token_ids), precision), len(contents), encoder.config)
    return encoder.inputs.joined(z_BD, inputs)


class Manifests:
    """The manifests that a loader has read, with their signatures."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._manifests: dict[int, WeightManifest] = {}
        self._signatures: dict[int, bytes | None] = {}

    @property
    def entries(self) -> set[TensorEntry]:
        """The tensors that the manifests name."""
        return {entry for manifest in self for entry in manifest.tensors}

    def read(self, number: int, versions: Versions) -> WeightManifest:
        """Reads the manifest from `versions`, keeps it, and returns it. Raises the errors of `Versions.manifest`."""
        signatures = versions.signatures([number])
        self._manifests[number] = versions.manifest(number)
        self._signatures |= signatures
        return self._manifests[number]

    def find_replaced(self, numbers: Collection[int]) -> list[int]:
        """Returns those of the `numbers` that name another version in the store now. Raises StoreUnavailable.

        If the store's manifest was removed or cannot be read, the version counts as not replaced.
        """
        kept = [number for number in numbers if number in self._manifests]
        replaced: list[int] = []
        for number, signature in self._versions.signatures(kept).items():
            # The usual case: the manifest is unchanged, or was removed.
            if signature in (None, self._signatures[number]):
                continue
            with suppress(NotFound, BadSignature, UnknownFormat, BlobCorrupt):
                if self._versions.manifest(number) == self._manifests[number]:
                    # The same manifest was signed again, for example with a new key.
                    self._signatures[number] = signature
                else:
                    replaced.append(number)
        return replaced

    def keep(self, numbers: Collection[int]) -> None:
        """Drops every other manifest."""
        self._manifests = {number: self._manifests[number] for number in self._manifests.keys() & set(numbers)}
        self._signatures = {number: self._signatures[number] for number in self._manifests}

    def __iter__(self) -> Iterator[WeightManifest]:
        return iter(self._manifests.values())
