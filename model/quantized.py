"""The model as it is served: INT8 or INT4 matrices, INT8 embeddings, and float32 between them.

    batch --QuantizedEncoder.encode--> z_BD --QuantizedHead.logits--> logits_BC
                                       z_BD --RandomFeatures.of--> features_BR --QuantizedHead.head_logits--> logits_BC

All classes are immutable, and threads may share their objects. Two versions with equal encoders share one encoder
object and one projection, so features are computed once for the heads of both versions. If only the lower blocks of two
encoders are equal (`common_layers`), these blocks run once, and each encoder continues from their output.

An answer depends only on the text and the weights, to the last bit. Neither the other texts of the batch nor the number
of threads (up to four) changes it.

INT4 uses only the upper plane of the blocks' INT8 weights. Embeddings and head are the same in both precisions. The
precision is chosen for each batch. If the lower planes were not stored, only INT4 can run.

Shape suffixes: T tokens of all texts, B texts, D width, R random features, C classes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from kernels.linear_i8 import PackedLinear, linear_i8, pack
from model.config import StrataConfig
from model.errors import WrongShape
from model.forward import Forward, pack_forward
from model.head import OUT, PROJ
from model.inputs import InputMap
from model.packed import EncoderConfig, PackedEncoder
from model.qtensor import N8G64, W4G64, W8C, QTensor
from model.ragged import RaggedBatch, RaggedLayout
from model.weights import check_encoder, check_weight, encoder_key, prefix_names

INT8 = "int8"
INT4 = "int4"
PRECISIONS = (INT8, INT4)
"""The precisions in which the same weights can run, the most accurate first."""


class QuantizedEncoder:
    """A `PackedEncoder` of the built-in family: encodes texts to unit vectors."""

    is_batch_invariant = True
    is_one_block = False

    def __init__(
        self,
        config: StrataConfig,
        forwards: Mapping[str, Forward],
        inputs: InputMap | None = None,
        prefixes: tuple[str, ...] = (),
    ) -> None:
        self.config = config
        self.inputs = inputs or InputMap(config.d_model)
        """Adds the vectors of other inputs to the encoder's vectors."""
        self._forwards = forwards
        self.precisions = tuple(forwards)
        """The precisions in which texts can be encoded, the most accurate first."""
        self.prefixes = prefixes
        """Names that identify the activations above the embedding and above each block (`prefix_names`), or ()."""

    @classmethod
    def from_tensors(cls, config: StrataConfig, tensors: Mapping[str, QTensor]) -> "QuantizedEncoder":
        """Packs the stored weights of an encoder. Raises MissingWeight or WrongShape, which name the weight."""
        check_encoder(config, tensors)
        precisions = stored_precisions({name: tensor.scheme for name, tensor in tensors.items()})
        forwards = {precision: pack_forward(config, tensors, precision) for precision in precisions}
        best = forwards[precisions[0]]
        prefixes = prefix_names(config, tensors, arithmetic=f"{best.name} {best.arithmetic}")
        return cls(config, forwards, InputMap(config.d_model, tensors), prefixes)

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Encodes texts: returns z_BD float32 of unit length, in the caller's order.

        The default is the most accurate precision. Raises BadTokens, or ValueError for a precision that the weights do
        not have.
        """
        z_BD = self._forward(precision).encode(batch)
        return z_BD if self.config.normalize else functional.normalize(z_BD, dim=1)

    def vectors(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Encodes texts as the publisher defines it: z_BD has unit length only if the config says so.

        Raises like `encode`.
        """
        return self._forward(precision).encode(batch)

    def encoding(self, digests: Mapping[str, str], max_tokens: int) -> str:
        """Returns a name for the function from texts of at most `max_tokens` tokens to vectors, in the best precision.

        Equal names give equal vectors, bit for bit. `digests` has the digests of the stored weights by name. Returns ""
        if another process may compute other bits.
        """
        arithmetic = self._best.arithmetic
        shape = replace(self.config, head_features=1, label_capacity=1).canonical_json()
        name = f"{encoder_key(digests)} {max_tokens} {arithmetic} {shape}"
        return hashlib.sha256(name.encode()).hexdigest()[:32] if arithmetic else ""

    @property
    def implementation(self) -> str:
        """The name of the implementation: `native`, `library` or `reference`."""
        return self._best.name

    def has_same_shape(self, other: PackedEncoder) -> bool:
        """Returns whether this encoder and `other` have the same shape. Label capacities of the configs may differ."""
        return self.config.without_labels == other.config.without_labels

    def encode_prefix(self, batch: RaggedBatch, layer: int, precision: str | None = None) -> Tensor:
        """Runs the blocks below `layer`: returns the activations x_TD float32, in the layout's order.

        `encode_from` and `Strata.forward_from` continue from these. Raises like `encode`, or WrongShape for a layer
        outside [0, n_layers].
        """
        self._check_layer(layer)
        return self._forward(precision).tokens(batch, layer)

    def prefix_from(self, x_TD: Tensor, layout: RaggedLayout, layer: int, precision: str | None = None) -> Tensor:
        """Returns x_TD float32 at the input of block `layer`, from x_TD at the input of block 0, in the layout's order.

        Raises WrongShape for a layer outside [0, n_layers], or ValueError like `encode`.
        """
        self._check_layer(layer)
        return self._forward(precision).tokens_from(x_TD, layout, layer)

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout, precision: str | None = None) -> Tensor:
        """Runs the blocks from `layer` on, from their input x_TD (`Forward.encode_from`). Same bits as `encode`.

        Raises WrongShape for a layer outside [0, n_layers], or ValueError like `encode`.
        """
        self._check_layer(layer)
        z_BD = self._forward(precision).encode_from(layer, x_TD, layout)
        return z_BD if self.config.normalize else functional.normalize(z_BD, dim=1)

    def _check_layer(self, layer: int) -> None:
        if not 0 <= layer <= self.config.n_layers:
            raise WrongShape(f"layer is {layer}; expected 0 to {self.config.n_layers}")

    def _forward(self, precision: str | None) -> Forward:
        if precision is None:
            return self._best
        if precision not in self._forwards:
            raise ValueError(f"precision is {precision!r}; expected one of {', '.join(self.precisions)}")
        return self._forwards[precision]

    @property
    def _best(self) -> Forward:
        return self._forwards[self.precisions[0]]


def common_layers(encoders: Sequence[PackedEncoder]) -> int:
    """Returns how many lower blocks are the same in all encoders; 0 if even their embeddings differ."""
    names_by_depth = zip(*(encoder.prefixes for encoder in encoders), strict=False)
    # The first depth is the embedding, so there is one more equal depth than there are equal blocks.
    return max(sum(len(set(names)) == 1 for names in names_by_depth) - 1, 0)


def stored_precisions(schemes: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the precisions in which stored weights can run, the most accurate first.

    `schemes` has the scheme of each stored weight by name. If no lower plane is stored, only INT4 can run.

    >>> stored_precisions({"layers.0.up": "n8g64", "embed.word": "w4g64"}), stored_precisions({"layers.0.up": "w4g64"})
    (('int8', 'int4'), ('int4',))
    """
    block_schemes = {scheme for name, scheme in schemes.items() if name.startswith("layers.")}
    return (INT4,) if W4G64 in block_schemes and N8G64 not in block_schemes else PRECISIONS


class RandomFeatures:
    """Computes the random features of vectors, the fixed first layer of the head: a random projection and a ReLU."""

    def __init__(self, proj: PackedLinear) -> None:
        self._proj = proj

    @classmethod
    def from_tensors(cls, config: EncoderConfig, tensors: Mapping[str, QTensor]) -> "RandomFeatures":
        """Packs the stored projection `head.proj`. Raises MissingWeight or WrongShape."""
        return cls(_pack(check_weight(tensors, PROJ, W8C, (config.head_features, config.d_model))))

    @torch.no_grad()
    def of(self, z_BD: Tensor) -> Tensor:
        """Returns features_BR float32 of vectors: the inputs of `head.out`, to which the learner fits it."""
        return linear_i8(z_BD, self._proj).relu_()


class QuantizedHead:
    """The quantized head of one version: computes the logits of unit vectors."""

    def __init__(self, config: EncoderConfig, features: RandomFeatures, out: PackedLinear) -> None:
        self.config = config
        self.features = features
        self._out = out

    @classmethod
    def from_tensors(
        cls, config: EncoderConfig, tensors: Mapping[str, QTensor], features: RandomFeatures | None = None
    ) -> "QuantizedHead":
        """Packs the stored `head.out`, and without `features` also `head.proj`. Raises MissingWeight or WrongShape."""
        features = features or RandomFeatures.from_tensors(config, tensors)
        out = check_weight(tensors, OUT, W8C, (config.label_capacity, config.head_features))
        return cls(config, features, _pack(out))

    def logits(self, z_BD: Tensor, num_labels: int) -> Tensor:
        """Returns logits [B, num_labels] float32, without the unused rows of the head. Raises WrongShape."""
        return self.head_logits(self.features.of(z_BD), num_labels)

    @torch.no_grad()
    def head_logits(self, features_BR: Tensor, num_labels: int) -> Tensor:
        """Computes logits like `logits`, from features_BR that `RandomFeatures` has computed. Raises WrongShape."""
        if not 0 <= num_labels <= self.config.label_capacity:
            raise WrongShape(f"num_labels is {num_labels}; expected 0 to {self.config.label_capacity}")
        return linear_i8(features_BR, self._out)[:, :num_labels]


class QuantizedModel:
    """One version of the weights, ready to answer: an encoder, a head, and the names of the head's rows."""

    def __init__(self, encoder: PackedEncoder, head: QuantizedHead, labels: Sequence[str]) -> None:
        if encoder.config.without_labels != head.config.without_labels:
            raise WrongShape("encoder and head have different configs")
        if len(labels) > head.config.label_capacity or len(set(labels)) != len(labels):
            raise WrongShape(f"{len(labels)} labels; expected at most {head.config.label_capacity}, all different")
        self.encoder = encoder
        self.head = head
        self.labels = tuple(labels)

    @classmethod
    def from_tensors(
        cls, config: StrataConfig, tensors: Mapping[str, QTensor], *, labels: Sequence[str]
    ) -> "QuantizedModel":
        """Packs a whole version. To share an encoder, pass encoder and head to the constructor instead."""
        encoder = QuantizedEncoder.from_tensors(config, tensors)
        return cls(encoder, QuantizedHead.from_tensors(config, tensors), labels)


def _pack(tensor: QTensor) -> PackedLinear:
    return pack(tensor.q_NK, tensor.parts["scale"], tensor.bias)
