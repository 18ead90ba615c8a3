"""The served form of the encoder: quantizes trained weights, reads them back from the bytes to be sent, and runs them.

    Strata, ridge weights -> QTensor --to_blob--> bytes --from_blob--> StoredTensor -> ServedEncoder, QuantizedHead
    texts --ServedEncoder--> z_BD, or x_TD below the trained blocks
              '--KnownVectors, KnownActivations: caches

**Quantization.** The frozen blocks are quantized by calibration on their inputs (`model.calibration`). The trained
blocks are quantized as in training (fake quantization), so the trained function is the served function. The learner
measures everything (features, accuracy, parity, probes) through these tensors.

**Cached vectors.** Answers may carry the vector of their text, which a replica has just computed. Encodings with the
same name give the same vectors, to the last bit (`QuantizedEncoder.encoding`). So the cache changes neither learning
nor unlearning.

**Cached activations.** A round need not encode texts through the frozen blocks again. The activations are rounded to
float16 even if they are not cached, so the cache does not change what a round learns. The key contains the boundary and
the weights below it, so other weights never match, and rounds of each tier (`learner.drift.tier_of`) have their own
entries. All boundaries share one bound, and the oldest entries are dropped first. Measured with 32 texts of CLINC150
and two trained blocks, on one thread of a Zen 4: a step takes 0.113 s with the cache and 0.146 s without; a step
through the whole encoder takes 0.53 s. Checkpoints contain neither cache.

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

from model.encoders import family_of, packed
from model.errors import UnreadableInput
from model.head import OUT, PROJ, out_weight, proj_weight
from model.inputs import InputMap, is_state, tokens_of
from model.packed import EncoderConfig, Inputs, PackedEncoder, WholeEncoder, checked
from model.plan import layer_of
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


class KnownVectors:
    """A cache of the last vectors of one `encoding`, by text. Only the learner's thread changes it; any may read it."""

    def __init__(self, encoding: str, width: int) -> None:
        self.encoding = encoding
        self._num_bytes = 4 * width
        self._z_by_text: dict[str, bytes] = {}
        self._held_bytes = 0

    def add(self, text: str, vector: TextVector) -> None:
        """Adds the vector of `text`, if it is of our encoding and width."""
        is_ours = bool(self.encoding) and vector.encoding == self.encoding
        if not is_ours or len(vector.z) != self._num_bytes or text in self._z_by_text:
            return
        self._z_by_text[text] = vector.z
        self._held_bytes += self._size_of(text)
        while self._held_bytes > VECTOR_BYTES:
            oldest = next(iter(self._z_by_text))
            del self._z_by_text[oldest]
            self._held_bytes -= self._size_of(oldest)

    def of(self, texts: Sequence[str]) -> dict[int, Tensor]:
        """Returns the cached vectors z_D by the place of their text in `texts`."""
        found = [self._z_by_text.get(text) for text in texts]
        return {
            place: torch.from_numpy(np.frombuffer(z, "<f4").astype(np.float32))
            for place, z in enumerate(found)
            if z is not None
        }

    def clear(self) -> None:
        """Forgets all texts, because of an erasure."""
        self._z_by_text = {}
        self._held_bytes = 0

    def _size_of(self, text: str) -> int:
        return sys.getsizeof(text) + self._num_bytes


def take_vectors(records: Iterable[Answer | Feedback], known: KnownVectors, receipts: Receipts | None) -> None:
    """Caches the vectors of answers whose authentication code is valid; without `receipts`, none is trusted."""
    for record in records:
        if receipts is None or not isinstance(record, Answer) or record.vector is None:
            continue
        if receipts.is_own_vector(record.vector, content(record)):
            known.add(content(record), record.vector)


ACTIVATION_BYTES: Final = 32 << 20
"""The most bytes of cached activations: 3,600 texts of 12 tokens at D = 384."""


class KnownActivations:
    """A cache of activations, by a digest of the weights that made them and by text. `num_bytes` are in use.

    The worker thread adds activations; the learner's thread clears them while no unit is running.
    """

    def __init__(self, *, max_bytes: int = ACTIVATION_BYTES) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0
        self._x_by_text: dict[tuple[str, str], Tensor] = {}

    def __len__(self) -> int:
        return len(self._x_by_text)

    def add(self, below: str, text: str, x_TD: Tensor) -> Tensor:
        """Caches the activations of a text, drops the oldest entries beyond the bound, and returns them in float16."""
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
        """Returns the cached activations x_TD, float16, by text."""
        found = ((text, self._x_by_text.get((below, text))) for text in texts)
        return {text: x_TD for text, x_TD in found if x_TD is not None}

    def clear(self) -> None:
        """Forgets all texts, because of an erasure."""
        self._x_by_text = {}
        self.num_bytes = 0

    def _drop(self, key: tuple[str, str]) -> None:
        dropped = self._x_by_text.pop(key, None)
        self.num_bytes -= 0 if dropped is None else dropped.nbytes


ENCODE_BATCH = 64
"""The number of texts in one batch."""

FIRST_ROWS: Final = 256
"""The number of rows of a table for few classes."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor's entry in the manifest, and the tensor as a replica reads it. `tensor.to_blob()` returns its bytes."""

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
    strata: WholeEncoder, *, first_layer: int | None = None, grams: Mapping[str, Tensor] = MappingProxyType({})
) -> dict[str, StoredTensor]:
    """Quantizes all weights of the encoder, or only the blocks from `first_layer` on. `grams`: see `EncoderFamily`.

    Raises NonFinite.
    """
    tensors = family_of(strata.config).stored(strata, first_layer=first_layer, grams=grams)
    return {name: export_tensor(tensor) for name, tensor in tensors.items()}


def export_projection(config: EncoderConfig, *, seed: int) -> StoredTensor:
    """Returns the projection of the random features."""
    return export_tensor(proj_weight(config, seed=seed))


def export_head(
    config: EncoderConfig,
    weights_CR: Tensor,
    *,
    temperature: float,
    threshold: float = 0.0,
    bias_C: Tensor | None = None,
) -> StoredTensor:
    """Quantizes the ridge weights, divided by the temperature. Raises NonFinite.

    The bias of the head is `bias_C`, or else the threshold, negative and divided by the temperature. The head has
    `rows_for` rows, up to the label capacity of `config`.
    """
    shape = replace(config, label_capacity=rows_for(len(weights_CR), config.label_capacity))
    if bias_C is None:
        bias_C = torch.full((len(weights_CR),), -threshold / temperature if threshold else 0.0)
    return export_tensor(out_weight(shape, weights_CR / temperature, bias_C))


def rows_for(num_classes: int, capacity: int) -> int:
    """Returns the number of rows of a table for `num_classes`: at most a quarter more, so that tables seldom grow.

    >>> rows_for(3, 16_384), rows_for(257, 16_384), rows_for(10_000, 16_384), rows_for(3, 8)
    (256, 320, 10240, 8)
    """
    num_rows = max(num_classes, FIRST_ROWS)
    # A quarter of the largest power of two below the number of rows.
    step = 1 << max((num_rows - 1).bit_length() - 3, 0)
    return min(-(-num_rows // step) * step, capacity)


class ServedEncoder:
    """Runs the encoder and the random features as replicas run them.

    - `key`: equal for encoders with equal weights and shape.
    - `text_key`: equal for encoders that differ at most in the `states` of inputs, such as scales of numbers.
    - `known`: cached vectors of texts.
    - `activations`: cached activations below the trained blocks.
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
        self.activations = KnownActivations()
        self.known = KnownVectors(self._encoder.encoding(digests, tokenizer.max_tokens), config.d_model)

    @property
    def precisions(self) -> tuple[str, ...]:
        """The names of the precisions of the weights, the most accurate first."""
        return self._encoder.precisions

    def z_many(self, texts: Sequence[str], precision: str | None = None) -> Tensor:
        """Returns unit vectors z_BD, by default in the most accurate precision. `texts` are contents of events.

        A vector does not depend on the other texts.
        """
        known = self.known.of(texts) if precision in (None, self.precisions[0]) else {}
        unknown = [place for place in range(len(texts)) if place not in known]
        z_BD = torch.empty(len(texts), self.config.d_model)
        if known:
            z_BD[list(known)] = torch.stack(list(known.values()))
        if unknown:
            z_BD[unknown] = self._encode([texts[place] for place in unknown], precision)
        return z_BD

    @property
    def _num_together(self) -> int:
        """The number of texts in a batch: 1 if a vector of this encoder would depend on the rest of the batch."""
        return ENCODE_BATCH if self._encoder.is_batch_invariant else 1

    def tokens(self, contents: Sequence[str]) -> list[list[int]]:
        """Returns the tokens of events that the encoder reads. Raises UnreadableInput."""
        return tokens_of([parse_content(content) for content in contents], self.tokenizer)

    def reads(self, content: str) -> bool:
        """Whether an event with this content can be encoded."""
        try:
            said = parse_content(content)
            if not said.values:
                return self.tokenizer.reads(content)
            self.joined([content], lambda _: torch.zeros(1, self.config.d_model))
        except (BadMessage, UnreadableInput):
            return False
        return True

    def _encode(self, contents: Sequence[str], precision: str | None) -> Tensor:
        encode = partial(self._encoder.encode, precision=precision)

        def vectors(token_ids: list[list[int]]) -> Tensor:
            z_BD = encode_many(encode, token_ids, batch_size=self._num_together)
            return checked(z_BD, len(token_ids), self.config)

        return self.joined(contents, vectors)

    def joined(self, contents: Sequence[str], encode: Callable[[list[list[int]]], Tensor]) -> Tensor:
        """Returns z_BD of events: the vectors that `encode` makes of the encoder's tokens, joined with other inputs."""
        said = [parse_content(content) for content in contents]
        rows = [row for row, each in enumerate(said) if each.is_encoded]
        z_BD = torch.zeros(len(said), self.config.d_model)
        if rows:
            z_BD[rows] = encode(tokens_of([said[row] for row in rows], self.tokenizer))
        return self._encoder.inputs.joined(z_BD, said)

    @property
    def inputs(self) -> InputMap:
        """The map from the other inputs of events to vectors, which are added to the encoder's vectors."""
        return self._encoder.inputs

    @property
    def states(self) -> dict[str, StoredTensor]:
        """The stored tensors of inputs, by name."""
        return {name: tensor for name, tensor in self.tensors.items() if is_state(name)}

    def with_states(self, states: Mapping[str, StoredTensor]) -> "ServedEncoder":
        """Returns a new encoder with the same weights and other tensors of inputs."""
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
        - `drop_tokens`: gets the places of a text's tokens, and returns the places to keep.

        If the encoder is a single block, the activations are its whole inputs.
        """
        encoder = self._encoder
        if encoder.is_one_block:
            batch = RaggedBatch.of(self.tokens(texts))
            return encoder.encode_prefix(batch, layer), batch.layout
        below = self._digest_below(layer)
        known = self.activations.of(below, texts)
        new = [text for text in dict.fromkeys(texts) if text not in known]
        token_ids = dict(zip(new, self.tokens(new), strict=True))
        places = [drop_tokens(list(range(len(known[text] if text in known else token_ids[text])))) for text in texts]
        # A text may occur in several rows, each with other dropped tokens.
        kept_pieces: dict[int, Tensor] = {}
        for text, x_LD in chain(known.items(), self._encoded(encoder, token_ids, below, layer)):
            kept_pieces |= {row: x_LD[places[row]] for row, each in enumerate(texts) if each == text}
        layout = RaggedLayout.of([len(kept_pieces[row]) for row in range(len(texts))])
        return layout.join([kept_pieces[row] for row in range(len(texts))]).float(), layout

    def _encoded(
        self, encoder: PackedEncoder, token_ids: Mapping[str, list[int]], below: str, layer: int
    ) -> Iterator[tuple[str, Tensor]]:
        """Yields texts with their activations at the input of block `layer`, and caches these.

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
        """Returns the head with the weights `out` on these features. The label capacity of its config is its rows."""
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
        below = {name: tensor.entry.digest for name, tensor in sorted(self.tensors.items()) if layer_of(name) < layer}
        return sha256(f"{below} {self.tokenizer.max_tokens} {layer}".encode()).hexdigest()


def _key_of(config: EncoderConfig, digests: Mapping[str, str]) -> str:
    lines = [f"{name} {digest}\n" for name, digest in digests.items()]
    return sha256("".join([f"{config.without_labels.canonical_json()}\n", *lines]).encode()).hexdigest()
