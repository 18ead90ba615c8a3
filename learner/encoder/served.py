"""Exports trained weights as served ones: each tensor is quantized, and read back from the bytes to be sent.

    Strata, ridge weights -> QTensor --to_blob--> bytes --from_blob--> StoredTensor -> ServedEncoder, QuantizedHead
    texts --ServedEncoder--> z_BD, or x_TD below the trained blocks
              '--KnownVectors, KnownActivations: what need not be encoded again

The blocks that are never trained are rounded for the inputs they see (`model.calibration`). The trained blocks are
rounded as they were in training (fake quantization), so that what was trained is what is served. Everything that the
learner measures after this (features, accuracy, parity, probes) is measured through these tensors.

Vectors that came with answers are known, as a replica has just encoded their texts. Equal names of encodings give equal
vectors, to the last bit (`QuantizedEncoder.encoding`): what is learnt is the same with and without them, and so is what
is unlearnt later.

Activations below the trained blocks are known, so that a round need not encode the frozen bottom again. They are
rounded to float16 whether they are kept or not, so what a round learns is the same with and without them. The key holds
the boundary and the weights below it, so another bottom finds nothing of this one, and rounds of every tier
(`learner.drift.tier_of`) keep their own. All boundaries share one bound: what a boundary that is not used any more has
kept is the oldest. Measured with 32 texts of CLINC150 and two trained blocks, on one thread of a Zen 4: a step takes
0.113 s with them and 0.146 s without; a step on the whole encoder takes 0.53 s. Neither is in a checkpoint.

Rejected: measuring in full precision (a replica would answer otherwise than what was measured), activations in float32
(half as many texts; the rounding of INT8 is far coarser than that of float16) or INT8 (a scale for each token, and
another rounding to train through), and encoding from a lower boundary that is kept up to a higher one (the bits would
depend on what was kept).

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
from wire.inputs import INPUTS, said_in
from wire.receipts import Receipts
from wire.records import Answer, Feedback, TensorEntry, TensorPart, TextVector

VECTOR_BYTES: Final = 8 << 20
"""Bytes of the vectors that are held, and of their texts: those of the answers of 20 s at 200 a second, at D = 384."""


class KnownVectors:
    """Holds the last vectors by `encoding`, by text. The learner's thread adds and clears; any may look them up."""

    def __init__(self, encoding: str, width: int) -> None:
        self.encoding = encoding
        self._num_bytes = 4 * width
        self._z_by_text: dict[str, bytes] = {}
        self._held_bytes = 0

    def add(self, text: str, vector: TextVector) -> None:
        """Adds the vector of `text`, if it was made as ours are."""
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
        """Returns the vectors z_D that are known, by the place of their text."""
        found = [self._z_by_text.get(text) for text in texts]
        return {
            place: torch.from_numpy(np.frombuffer(z, "<f4").astype(np.float32))
            for place, z in enumerate(found)
            if z is not None
        }

    def clear(self) -> None:
        """Forgets all texts: somebody was erased."""
        self._z_by_text = {}
        self._held_bytes = 0

    def _size_of(self, text: str) -> int:
        return sys.getsizeof(text) + self._num_bytes


def take_vectors(records: Iterable[Answer | Feedback], known: KnownVectors, receipts: Receipts | None) -> None:
    """Adds the vectors of the answers among `records` whose code is ours; without `receipts` none is believed."""
    for record in records:
        if receipts is None or not isinstance(record, Answer) or record.vector is None:
            continue
        if receipts.is_code_of_vector(record.vector, content(record)):
            known.add(content(record), record.vector)


ACTIVATION_BYTES: Final = 32 << 20
"""Bytes of the activations that are kept: those of 3,600 texts of 12 tokens at D = 384."""


class KnownActivations:
    """Keeps activations by the digest of the weights that made them, and by text: `num_bytes` of them.

    Slow work adds them; the learner's thread clears them, and not while a unit is under way.
    """

    def __init__(self, *, max_bytes: int = ACTIVATION_BYTES) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0
        self._x_by_text: dict[tuple[str, str], Tensor] = {}

    def __len__(self) -> int:
        return len(self._x_by_text)

    def add(self, below: str, text: str, x_TD: Tensor) -> Tensor:
        """Keeps the activations of a text, and drops the oldest beyond the bound; returns them rounded."""
        rounded_TD = x_TD.half()
        key = (below, text)
        self._drop(key)
        self._x_by_text[key] = rounded_TD.clone()  # and not a view of those of all texts
        self.num_bytes += rounded_TD.nbytes
        while self.num_bytes > self._max_bytes:
            self._drop(next(iter(self._x_by_text)))
        return rounded_TD

    def of(self, below: str, texts: Sequence[str]) -> dict[str, Tensor]:
        """Returns the activations x_TD that are kept, float16, by text."""
        found = ((text, self._x_by_text.get((below, text))) for text in texts)
        return {text: x_TD for text, x_TD in found if x_TD is not None}

    def clear(self) -> None:
        """Forgets all texts: somebody was erased."""
        self._x_by_text = {}
        self.num_bytes = 0

    def _drop(self, key: tuple[str, str]) -> None:
        dropped = self._x_by_text.pop(key, None)
        self.num_bytes -= 0 if dropped is None else dropped.nbytes


ENCODE_BATCH = 64
"""Number of texts that are encoded in one batch."""


FIRST_ROWS: Final = 256
"""The number of rows of a table that has few classes."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """Holds a tensor's entry in the manifest, and the tensor as a replica reads it. `tensor.to_blob()`: its bytes."""

    entry: TensorEntry
    tensor: QTensor


def export_tensor(tensor: QTensor) -> StoredTensor:
    """Writes the tensor and reads it back. Raises NonFinite."""
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
    """Returns all weights of the encoder, or those of the blocks from `first_layer` on. `grams`: see `EncoderFamily`.

    Raises NonFinite.
    """
    tensors = family_of(strata.config).stored(strata, first_layer=first_layer, grams=grams)
    return {name: export_tensor(tensor) for name, tensor in tensors.items()}


def export_projection(config: EncoderConfig, *, seed: int) -> StoredTensor:
    """Returns the weights of the random features."""
    return export_tensor(proj_weight(config, seed=seed))


def export_head(
    config: EncoderConfig,
    weights_CR: Tensor,
    *,
    temperature: float,
    threshold: float = 0.0,
    bias_C: Tensor | None = None,
) -> StoredTensor:
    """Returns the ridge weights, divided by the temperature, behind the threshold or a bias. Raises NonFinite.

    They have the rows of the tables of so many classes, up to the label capacity of `config`.
    """
    shape = replace(config, label_capacity=rows_for(len(weights_CR), config.label_capacity))
    if bias_C is None:
        bias_C = torch.full((len(weights_CR),), -threshold / temperature if threshold else 0.0)
    return export_tensor(out_weight(shape, weights_CR / temperature, bias_C))


def rows_for(num_classes: int, capacity: int) -> int:
    """Returns how many rows the tables of so many classes have: a quarter more at most, so that they seldom grow.

    >>> rows_for(3, 16_384), rows_for(257, 16_384), rows_for(10_000, 16_384), rows_for(3, 8)
    (256, 320, 10240, 8)
    """
    num_rows = max(num_classes, FIRST_ROWS)
    step = 1 << max((num_rows - 1).bit_length() - 3, 0)
    return min(-(-num_rows // step) * step, capacity)


class ServedEncoder:
    """Runs the encoder and the random features as replicas run them. An equal `key` means equal weights and shape, an
    equal `text_key` that at most the `states` of inputs differ, such as scales of numbers.

    The texts of `known` are not encoded again, nor those of `activations` up to the blocks that are trained.
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
        """Those that the weights have, the most accurate first."""
        return self._encoder.precisions

    def z_many(self, texts: Sequence[str], precision: str | None = None) -> Tensor:
        """Returns z_BD, unit vectors, by default in the most accurate precision. `texts` are contents of events.

        They do not depend on which texts are encoded together.
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
        """How many texts are encoded together: each text must have one vector, whatever it is encoded with."""
        return ENCODE_BATCH if self._encoder.is_batch_invariant else 1

    def tokens(self, contents: Sequence[str]) -> list[list[int]]:
        """Returns what the encoder reads of events. Raises UnreadableInput."""
        return tokens_of([said_in(content) for content in contents], self.tokenizer)

    def reads(self, content: str) -> bool:
        """Whether an event of this content can be read."""
        try:
            said = said_in(content)
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
        """Returns z_BD of events, of which `encode` makes the vectors of the encoder's tokens."""
        said = [said_in(content) for content in contents]
        rows = [row for row, each in enumerate(said) if each.is_encoded]
        z_BD = torch.zeros(len(said), self.config.d_model)
        if rows:
            z_BD[rows] = encode(tokens_of([said[row] for row in rows], self.tokenizer))
        return self._encoder.inputs.joined(z_BD, said)

    @property
    def inputs(self) -> InputMap:
        """What is added to the vectors of the encoder."""
        return self._encoder.inputs

    @property
    def states(self) -> dict[str, StoredTensor]:
        """The stored tensors of inputs, by name."""
        return {name: tensor for name, tensor in self.tensors.items() if is_state(name)}

    def with_states(self, states: Mapping[str, StoredTensor]) -> "ServedEncoder":
        """Returns a new encoder, this one with other tensors of inputs."""
        weights = {name: tensor for name, tensor in self.tensors.items() if not is_state(name)}
        return self._with(weights | dict(states))

    def features(self, z_BD: Tensor) -> Tensor:
        """Returns the random features phi_BR of unit vectors."""
        return self._features.of(z_BD)

    def prefix(
        self, texts: Sequence[str], layer: int, *, drop_tokens: Callable[[list[int]], list[int]] = list
    ) -> tuple[Tensor, RaggedLayout]:
        """Returns x_TD at the input of block `layer`, in the order of the layout. `texts` are what the encoder reads of
        events (`wire.inputs.encoded`). Those that it still has are not
        encoded again. `drop_tokens` gets the places of a text's tokens, and returns those that stay.

        Of an encoder that is one block, these are the numbers that it reads, all of them."""
        encoder = self._encoder
        if encoder.is_one_block:
            batch = RaggedBatch.of(self.tokens(texts))
            return encoder.encode_prefix(batch, layer), batch.layout
        below = self._digest_below(layer)
        known = self.activations.of(below, texts)
        new = [text for text in dict.fromkeys(texts) if text not in known]
        token_ids = dict(zip(new, self.tokens(new), strict=True))
        places = [drop_tokens(list(range(len(known[text] if text in known else token_ids[text])))) for text in texts]
        kept_pieces: dict[int, Tensor] = {}
        for text, x_LD in chain(known.items(), self._encoded(encoder, token_ids, below, layer)):
            kept_pieces |= {row: x_LD[places[row]] for row, each in enumerate(texts) if each == text}
        layout = RaggedLayout.of([len(kept_pieces[row]) for row in range(len(texts))])
        return layout.join([kept_pieces[row] for row in range(len(texts))]).float(), layout

    def _encoded(
        self, encoder: PackedEncoder, token_ids: Mapping[str, list[int]], below: str, layer: int
    ) -> Iterator[tuple[str, Tensor]]:
        """Yields texts and their activations at the input of block `layer`, and keeps them; few tokens at a time."""
        texts = list(token_ids)
        offsets = [0, *accumulate(map(len, token_ids.values()))]
        for first, end in runs(offsets, MAX_BATCH_TOKENS) if texts else ():
            batch = RaggedBatch.of([token_ids[text] for text in texts[first:end]])
            pieces = batch.layout.split(encoder.encode_prefix(batch, layer))
            for text, piece_TD in zip(texts[first:end], pieces, strict=True):
                yield text, self.activations.add(below, text, piece_TD)

    def forget_texts(self) -> None:
        """Forgets what is known of any text: somebody was erased."""
        self.known.clear()
        self.activations.clear()

    def head(self, out: StoredTensor) -> QuantizedHead:
        """Returns the head that maps these features to logits by the weights `out`; its config has their rows."""
        shape = replace(self.config, label_capacity=out.tensor.shape[0])
        return QuantizedHead.from_tensors(shape, {OUT: out.tensor}, self._features)

    def with_top(self, top: Mapping[str, StoredTensor]) -> "ServedEncoder":
        """Returns a new encoder: this one with the tensors of `top` in place of its own."""
        return self._with(self.tensors | dict(top))

    def _with(self, tensors: Mapping[str, StoredTensor]) -> "ServedEncoder":
        new = ServedEncoder(self.config, self.tokenizer, tensors)
        new.activations = self.activations
        return new

    def _digest_below(self, layer: int) -> str:
        """Returns a digest of the weights on which the input of block `layer` depends, and of what a text becomes."""
        below = {name: tensor.entry.digest for name, tensor in sorted(self.tensors.items()) if layer_of(name) < layer}
        return sha256(f"{below} {self.tokenizer.max_tokens} {layer}".encode()).hexdigest()


def _key_of(config: EncoderConfig, digests: Mapping[str, str]) -> str:
    lines = [f"{name} {digest}\n" for name, digest in digests.items()]
    return sha256("".join([f"{config.without_labels.canonical_json()}\n", *lines]).encode()).hexdigest()
