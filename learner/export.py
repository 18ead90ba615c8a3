"""From what is trained to what is served: full precision -> stored tensors, each read back from the bytes to be sent.

    Strata, ridge weights -> QTensor --to_blob--> bytes --from_blob--> Stored -> ServedEncoder, QuantizedHead

The blocks that never change are rounded for the inputs they see (`model.calibration`); those that are trained are
rounded as they were in training, so that what was trained is what is served.

Whatever the learner measures from here on (features, accuracy, parity, probes), it measures through these tensors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from types import MappingProxyType

import torch
from torch import Tensor

from model.config import StrataConfig
from model.head import OUT, PROJ, out_weight, proj_weight
from model.qtensor import QTensor, from_blob
from model.quantized import INT8, QuantizedEncoder, QuantizedHead
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors
from wire.records import TensorEntry, TensorPart

ENCODE_BATCH = 64
"""Texts that the encoder takes at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor as the manifest names it, and as a replica will read it. `tensor.to_blob()` gives the bytes again."""

    entry: TensorEntry
    tensor: QTensor


def stored(tensor: QTensor) -> Stored:
    """Write the tensor and read it back. Raises NonFinite."""
    blob = tensor.to_blob()
    parts = tuple(TensorPart(name=part.name, dtype=part.dtype, shape=part.shape) for part in tensor.specs)
    entry = TensorEntry(
        name=tensor.name,
        scheme=tensor.scheme,
        digest=sha256(blob).hexdigest(),
        num_bytes=len(blob),
        parts=parts,
    )
    return Stored(entry, from_blob(entry, blob))


def stored_encoder(
    strata: Strata, *, first_layer: int | None = None, grams: Mapping[str, Tensor] = MappingProxyType({})
) -> dict[str, Stored]:
    """All weights of the encoder, or those of the blocks from `first_layer` on; `grams` as for `encoder_tensors`.

    Raises NonFinite.
    """
    tensors = encoder_tensors(strata, first_layer=first_layer, grams=grams)
    return {name: stored(tensor) for name, tensor in tensors.items()}


def stored_projection(config: StrataConfig, *, seed: int) -> Stored:
    """The random features."""
    return stored(proj_weight(config, seed=seed))


def stored_head(config: StrataConfig, weights_CR: Tensor, *, temperature: float) -> Stored:
    """The ridge weights, the temperature folded in, filled up to the label capacity. Raises NonFinite."""
    return stored(out_weight(config, weights_CR / temperature, torch.zeros(len(weights_CR))))


class ServedEncoder:
    """The encoder and the random features as replicas run them. Equal `key`: equal weights."""

    def __init__(self, config: StrataConfig, tokenizer: TextTokenizer, tensors: Mapping[str, Stored]) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.tensors = dict(tensors)
        digests = (f"{name} {it.entry.digest}\n" for name, it in sorted(tensors.items()))
        self.key = sha256("".join(digests).encode()).hexdigest()
        self._encoder = QuantizedEncoder.from_tensors(config, {name: it.tensor for name, it in tensors.items()})
        self._features = self.head(stored_head(config, torch.zeros(1, config.head_features), temperature=1.0))

    def z_many(self, texts: Sequence[str], precision: str = INT8) -> Tensor:
        """z_BD, unit vectors. It does not depend on which texts are encoded together."""
        if not texts:
            return torch.empty(0, self.config.d_model)
        encode = partial(self._encoder.encode, precision=precision)
        return encode_many(encode, self.tokenizer.encode_many(texts), batch_size=ENCODE_BATCH)

    def features(self, z_BD: Tensor) -> Tensor:
        """phi_BR of unit vectors."""
        return self._features.features(z_BD)

    def prefix(
        self, texts: Sequence[str], layer: int, *, thin: Callable[[list[int]], list[int]] = list
    ) -> tuple[Tensor, RaggedLayout]:
        """x_TD at the input of block `layer`, in the order of the layout, of what `thin` leaves of each text's ids."""
        batch = RaggedBatch.of([thin(ids) for ids in self.tokenizer.encode_many(texts)])
        return self._encoder.encode_prefix(batch, layer), batch.layout

    def head(self, out: Stored) -> QuantizedHead:
        """The head that reads these features through `out`."""
        return QuantizedHead.from_tensors(self.config, {PROJ: self.tensors[PROJ].tensor, OUT: out.tensor})

    def with_top(self, top: Mapping[str, Stored]) -> "ServedEncoder":
        """The next encoder: this one with the tensors of `top` in place of its own."""
        return ServedEncoder(self.config, self.tokenizer, self.tensors | dict(top))
