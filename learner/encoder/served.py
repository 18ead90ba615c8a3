"""The encoder as replicas run it: its weights are quantized, written as the bytes to be sent, and read back from these.

    Strata, ridge weights -> QTensor --to_blob--> bytes --from_blob--> StoredTensor -> ServedEncoder, QuantizedHead
    texts --ServedEncoder--> unit vectors z_BD, or activations x_TD at the input of a block
              '--VectorCache, ActivationCache: caches

**Quantization.** The frozen blocks are quantized by calibration on their inputs (`model.calibration`). The trained
blocks are quantized as in training (fake quantization), so the trained function is the served function. The learner
computes all features, accuracies, parities and probes with these quantized tensors.

**Cached vectors.** An answer may contain the vector of its text, which a replica has just computed. Vectors of the same
encoding, which is identified by name, are equal to the last bit (`QuantizedEncoder.encoding`). So the cache changes
neither learning nor unlearning.

**Cached activations.** With cached activations, a round need not encode texts through the frozen blocks again. The
activations are rounded to float16 even if they are not cached, so the cache does not change what a round learns. The
cache key contains the number of the first trained block and a digest of the weights below it. So activations of other
weights never match, and each tier of rounds (`learner.drift.tier_name`) has its own entries. All entries share one
bound, and the oldest are dropped first. Checkpoints contain neither cache.

Measured with 32 texts of CLINC150 and two trained blocks, on one thread of a Zen 4: a gradient step takes 0.113 s with
the cache and 0.146 s without. A step through the whole encoder takes 0.53 s.

Rejected: measuring in full precision (replicas would answer differently), activations in float32 (half as many texts,
although INT8 rounds far more coarsely than float16) or in INT8 (a scale for each token, and another rounding in
training), and encoding from the cached activations of a lower boundary (the bits would depend on the cache).

Shape suffixes: B texts, T tokens of a text, D width, C classes, R features.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import accumulate, chain
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from torch import Tensor

from model.encoders import find_family, packed
from model.errors import UnreadableInput
from model.head import OUT, PROJ, out_weight, proj_weight
from model.inputs import InputMap, is_state, tokenize_contents
from model.packed import EncoderConfig, Inputs, PackedEncoder, WholeEncoder, checked
from model.plan import layer_index
from model.qtensor import QTensor, from_blob
from model.quantized import QuantizedHead, RandomFeatures
from model.ragged import RaggedBatch, RaggedLayout, runs
from model.strata import MAX_BATCH_TOKENS, encode_many
from wire.errors import BadMessage
from wire.events import content
from wire.inputs import INPUTS, parse_content
from wire.receipts import Receipts
from wire.records import Answer, Feedback, TensorEntry, TensorPart, TextVector

VECTOR_BYTES: Final = 8 << 20
"""The most bytes of cached vectors and their texts: the answers of 20 s at 200 a second, at D = 384."""


class VectorCache:
    """A cache of the last vectors that replicas computed, by text. All belong to one `encoding`.

    Only the learner's thread changes the cache; any thread may read it.
    """

    def __init__(self, encoding: str, width: int) -> None:
        self.encoding = encoding
        self._num_bytes = 4 * width
        self._z_by_text: dict[str, bytes] = {}
        self._total_bytes = 0

    def add(self, text: str, vector: TextVector) -> None:
        """Adds the vector of `text`. Ignores a vector of another encoding or width."""
        is_ours = bool(self.encoding) and vector.encoding == self.encoding
        if not is_ours or len(vector.z) != self._num_bytes or text in self._z_by_text:
            return
        self._z_by_text[text] = vector.z
        self._total_bytes += self._count_bytes(text)
        while self._total_bytes > VECTOR_BYTES:
            oldest = next(iter(self._z_by_text))
            del self._z_by_text[oldest]
            self._total_bytes -= self._count_bytes(oldest)

    def of(self, texts: Sequence[str]) -> dict[int, Tensor]:
        """Returns the cached vectors z_D by the index of their text in `texts`. Other texts are not cached."""
        vectors = [self._z_by_text.get(text) for text in texts]
        return {
            index: torch.from_numpy(np.frombuffer(z, "<f4").astype(np.float32))
            for index, z in enumerate(vectors)
            if z is not None
        }

    def clear(self) -> None:
        """Forgets all texts, because of an erasure."""
        self._z_by_text = {}
        self._total_bytes = 0

    def _count_bytes(self, text: str) -> int:
        return sys.getsizeof(text) + self._num_bytes


def cache_vectors(records: Iterable[Answer | Feedback], known: VectorCache, receipts: Receipts | None) -> None:
    """Caches the vectors in the answers among `records`, if the vector's authentication code is valid.

    Without `receipts`, no code can be checked, so no vector is cached.
    """
    for record in records:
        if receipts is None or not isinstance(record, Answer) or record.vector is None:
            continue
        if receipts.is_own_vector(record.vector, content(record)):
            known.add(content(record), record.vector)


ACTIVATION_BYTES: Final = 32 << 20
"""The most bytes of cached activations: 3,600 texts of 12 tokens at D = 384."""


class ActivationCache:
    """A cache of activations. The key is a digest of the weights that made them, and the text.

    `num_bytes` is the memory in use.

    The worker thread adds activations; the learner's thread clears them while no unit is running.
    """

    def __init__(self, *, max_bytes: int = ACTIVATION_BYTES) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0
        self._x_by_text: dict[tuple[str, str], Tensor] = {}

    def __len__(self) -> int:
        return len(self._x_by_text)

    def add(self, below: str, text: str, x_TD: Tensor) -> Tensor:
        """Caches the activations of a text, and returns them in float16. Drops the oldest entries beyond the bound."""
        rounded_TD = x_TD.half()
        key = (below, text)
        self._drop(key)
        # A clone, since a view would keep the activations of the whole batch alive.
        self._x_by_text[key] = rounded_TD.clone()
        self.num_bytes += rounded_TD.nbytes
        while self.num_bytes > self._max_bytes:
            self._drop(next(iter(self._x_by_text)))
        return rounded_TD

    def of(self, below: str, texts: Sequence[str]) -> dict[str, Tensor]:
        """Returns the cached activations x_TD of `texts`, float16, by text; texts that are not cached are left out.

        `below` is the digest of the weights that made the activations.
        """
        pairs = ((text, self._x_by_text.get((below, text))) for text in texts)
        return {text: x_TD for text, x_TD in pairs if x_TD is not None}

    def clear(self) -> None:
        """Forgets all texts, because of an erasure."""
        self._x_by_text = {}
        self.num_bytes = 0

    def _drop(self, key: tuple[str, str]) -> None:
        dropped = self._x_by_text.pop(key, None)
        self.num_bytes -= 0 if dropped is None else dropped.nbytes


ENCODE_BATCH = 64
"""The number of texts that are encoded in one batch."""

FIRST_ROWS: Final = 256
"""The fewest rows of a table that has a row for each class."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor of a version: its entry in the manifest, and the quantized tensor as a replica reads it.

    `tensor.to_blob()` returns the bytes that are sent.
    """

    entry: TensorEntry
    tensor: QTensor


def export_tensor(tensor: QTensor) -> StoredTensor:
    """Serializes a tensor and reads it back from the bytes. Raises NonFinite."""
    blob = tensor.to_blob()
    parts = tuple(TensorPart(name=part.name, dtype=part.dtype, shape=part.shape) for part in tensor.specs)
    entry = TensorEntry(
        name=tensor.name,
        scheme=tensor.scheme,
        digest=sha256(blob).hexdigest(),
        num_bytes=len(blob),
        parts=parts,
    )
    return StoredTensor(entry, from_blob(entry, blob))


def export_encoder(
    encoder: WholeEncoder, *, first_layer: int | None = None, grams: Mapping[str, Tensor] = MappingProxyType({})
) -> dict[str, StoredTensor]:
    """Quantizes the weights of an encoder, all of them or only the blocks from `first_layer` on; returns them by name.

    `grams`: see `EncoderFamily`. Raises NonFinite.
    """
    tensors = find_family(encoder.config).quantize_trained(encoder, first_layer=first_layer, grams=grams)
    return {name: export_tensor(tensor) for name, tensor in tensors.items()}


def export_projection(config: EncoderConfig, *, seed: int) -> StoredTensor:
    """Returns the projection matrix of the random features, drawn with `seed`."""
    return export_tensor(proj_weight(config, seed=seed))


def export_head(
    config: EncoderConfig,
    weights_CR: Tensor,
    *,
    temperature: float,
    threshold: float = 0.0,
    bias_C: Tensor | None = None,
) -> StoredTensor:
    """Quantizes the head of a version: the weights and the bias, both divided by the temperature. Raises NonFinite.

    The bias is `bias_C` as it is, or `-threshold / temperature` if `bias_C` is None. The head has `rows_for(C, ...)`
    rows, at most the label capacity of `config`.
    """
    shape = replace(config, label_capacity=rows_for(len(weights_CR), config.label_capacity))
    if bias_C is None:
        bias_C = torch.full((len(weights_CR),), -threshold / temperature if threshold else 0.0)
    return export_tensor(out_weight(shape, weights_CR / temperature, bias_C))


def rows_for(num_classes: int, capacity: int) -> int:
    """Returns the number of rows of a table for `num_classes` classes, at most `capacity`.

    It is up to a quarter more than the number of classes, so that tables seldom grow.

    >>> rows_for(3, 16_384), rows_for(257, 16_384), rows_for(10_000, 16_384), rows_for(3, 8)
    (256, 320, 10240, 8)
    """
    num_rows = max(num_classes, FIRST_ROWS)
    # A quarter of the largest power of two below the number of rows.
    step = 1 << max((num_rows - 1).bit_length() - 3, 0)
    return min(-(-num_rows // step) * step, capacity)


class ServedEncoder:
    """Runs the quantized encoder and the random features as replicas run them.

    - `key`: identifies the weights and the shape. Encoders with the same key make the same vectors.
    - `text_key`: like `key`, but without the statistics of inputs (`states`), such as scales of numbers.
    - `known`: a cache of the vectors of texts.
    - `activations`: a cache of the activations below the trained blocks.
    """

    def __init__(self, config: EncoderConfig, tokenizer: Inputs, tensors: Mapping[str, StoredTensor]) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.tensors = dict(tensors)
        digests = {name: tensor.entry.digest for name, tensor in sorted(tensors.items())}
        self.key = _key_of(config, digests)
        self.text_key = _key_of(config, {name: digest for name, digest in digests.items() if not is_state(name)})
        self._encoder = packed(config, {name: each.tensor for name, each in tensors.items()}, tokenizer)
        self._encoder.inputs.open(INPUTS.all())
        self._features = RandomFeatures.from_tensors(config, {PROJ: tensors[PROJ].tensor})
        self.activations = ActivationCache()
        self.known = VectorCache(self._encoder.encoding(digests, tokenizer.max_tokens), config.d_model)

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions in which the encoder can run, such as "int8"; the most accurate first."""
        return self._encoder.precisions

    def z_many(self, texts: Sequence[str], precision: str | None = None) -> Tensor:
        """Encodes events as unit vectors z_BD, by default in the most accurate precision.

        `texts` are the contents of the events. A vector does not depend on the other events.
        """
        cached = self.known.of(texts) if precision in (None, self.precisions[0]) else {}
        missing = [index for index in range(len(texts)) if index not in cached]
        z_BD = torch.empty(len(texts), self.config.d_model)
        if cached:
            z_BD[list(cached)] = torch.stack(list(cached.values()))
        if missing:
            z_BD[missing] = self._encode([texts[index] for index in missing], precision)
        return z_BD

    @property
    def _batch_size(self) -> int:
        """The number of texts in a batch: 1 if a vector of this encoder would depend on the rest of the batch."""
        return ENCODE_BATCH if self._encoder.is_batch_invariant else 1

    def tokens(self, contents: Sequence[str]) -> list[list[int]]:
        """Tokenizes the part of each event that the encoder reads. Raises UnreadableInput."""
        return tokenize_contents([parse_content(content) for content in contents], self.tokenizer)

    def reads(self, content: str) -> bool:
        """Returns whether an event with this content can be encoded."""
        try:
            parsed = parse_content(content)
            if not parsed.values:
                return self.tokenizer.reads(content)
            self.joined([content], lambda _: torch.zeros(1, self.config.d_model))
        except (BadMessage, UnreadableInput):
            return False
        return True

    def _encode(self, contents: Sequence[str], precision: str | None) -> Tensor:
        encode = partial(self._encoder.encode, precision=precision)

        def vectors(token_ids: list[list[int]]) -> Tensor:
            z_BD = encode_many(encode, token_ids, batch_size=self._batch_size)
            return checked(z_BD, len(token_ids), self.config)

        return self.joined(contents, vectors)

    def joined(self, contents: Sequence[str], encode: Callable[[list[list[int]]], Tensor]) -> Tensor:
        """Returns the vectors z_BD of events.

        `encode` makes a vector of the tokens of each event that has a text. The vectors of the other inputs, such as
        numbers, are added.
        """
        parsed = [parse_content(content) for content in contents]
        rows = [row for row, content in enumerate(parsed) if content.is_encoded]
        z_BD = torch.zeros(len(parsed), self.config.d_model)
        if rows:
            z_BD[rows] = encode(tokenize_contents([parsed[row] for row in rows], self.tokenizer))
        return self._encoder.inputs.joined(z_BD, parsed)

    @property
    def inputs(self) -> InputMap:
        """The map from the other inputs of events to vectors, which are added to the encoder's vectors."""
        return self._encoder.inputs

    @property
    def states(self) -> dict[str, StoredTensor]:
        """The tensors with statistics of inputs, such as scales of numbers, by name."""
        return {name: tensor for name, tensor in self.tensors.items() if is_state(name)}

    def with_states(self, states: Mapping[str, StoredTensor]) -> "ServedEncoder":
        """Returns a new encoder with the same weights and other statistics of inputs."""
        weights = {name: tensor for name, tensor in self.tensors.items() if not is_state(name)}
        return self._with(weights | dict(states))

    def features(self, z_BD: Tensor) -> Tensor:
        """Returns the random features phi_BR of unit vectors."""
        return self._features.of(z_BD)

    def prefix(
        self, texts: Sequence[str], layer: int, *, drop_tokens: Callable[[list[int]], list[int]] = list
    ) -> tuple[Tensor, RaggedLayout]:
        """Returns the activations x_TD at the input of block `layer`, float32, and their layout.

        - `texts`: the parts of events that the encoder reads (`wire.inputs.encoded`). Cached texts are not encoded.
        - `drop_tokens`: gets the positions of a text's tokens, and returns the positions to keep.

        If the encoder is a single block, the activations are the inputs of the encoder.
        """
        encoder = self._encoder
        if encoder.is_one_block:
            batch = RaggedBatch.of(self.tokens(texts))
            return encoder.encode_prefix(batch, layer), batch.layout
        below = self._digest_below(layer)
        cached = self.activations.of(below, texts)
        new = [text for text in dict.fromkeys(texts) if text not in cached]
        token_ids = dict(zip(new, self.tokens(new), strict=True))
        lengths = [len(cached[text] if text in cached else token_ids[text]) for text in texts]
        kept_positions = [drop_tokens(list(range(length))) for length in lengths]
        # A text may occur in several rows, each with other dropped tokens.
        kept_pieces: dict[int, Tensor] = {}
        for text, x_LD in chain(cached.items(), self._encoded(encoder, token_ids, below, layer)):
            kept_pieces |= {row: x_LD[kept_positions[row]] for row, other in enumerate(texts) if other == text}
        layout = RaggedLayout.of([len(kept_pieces[row]) for row in range(len(texts))])
        return layout.join([kept_pieces[row] for row in range(len(texts))]).float(), layout

    def _encoded(
        self, encoder: PackedEncoder, token_ids: Mapping[str, list[int]], below: str, layer: int
    ) -> Iterator[tuple[str, Tensor]]:
        """Encodes texts up to the input of block `layer`; yields each text with its activations, and caches them.

        A batch has at most MAX_BATCH_TOKENS tokens, or a single text.
        """
        texts = list(token_ids)
        offsets = [0, *accumulate(map(len, token_ids.values()))]
        for first, end in runs(offsets, MAX_BATCH_TOKENS) if texts else ():
            batch = RaggedBatch.of([token_ids[text] for text in texts[first:end]])
            pieces = batch.layout.split(encoder.encode_prefix(batch, layer))
            for text, piece_TD in zip(texts[first:end], pieces, strict=True):
                yield text, self.activations.add(below, text, piece_TD)

    def forget_texts(self) -> None:
        """Clears the caches of texts, because of an erasure."""
        self.known.clear()
        self.activations.clear()

    def head(self, out: StoredTensor) -> QuantizedHead:
        """Returns a head with the weights `out` on the random features of this encoder.

        The label capacity in its config is the number of its rows.
        """
        shape = replace(self.config, label_capacity=out.tensor.shape[0])
        return QuantizedHead.from_tensors(shape, {OUT: out.tensor}, self._features)

    def with_top(self, top: Mapping[str, StoredTensor]) -> "ServedEncoder":
        """Returns a new encoder in which the tensors of `top` replace those of the same names."""
        return self._with(self.tensors | dict(top))

    def _with(self, tensors: Mapping[str, StoredTensor]) -> "ServedEncoder":
        new = ServedEncoder(self.config, self.tokenizer, tensors)
        new.activations = self.activations
        return new

    def _digest_below(self, layer: int) -> str:
        """Returns a digest of everything on which the input of block `layer` depends, except the text."""
        below = {
            name: tensor.entry.digest for name, tensor in sorted(self.tensors.items()) if layer_index(name) < layer
        }
        return sha256(f"{below} {self.tokenizer.max_tokens} {layer}".encode()).hexdigest()


def _key_of(config: EncoderConfig, digests: Mapping[str, str]) -> str:
    lines = [f"{name} {digest}\n" for name, digest in digests.items()]
    return sha256("".join([f"{config.without_labels.canonical_json()}\n", *lines]).encode()).hexdigest()
