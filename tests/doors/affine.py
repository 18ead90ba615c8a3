"""A family of encoders of another package, of 16 numbers: the mean of the rows of a text's words, through one layer.

words --Words: a number for each--> the rows of a fixed table --mean--> one linear layer --> z_BD of unit length
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import WrongConfig
from model.inputs import InputMap
from model.linears import Linear, full_precision
from model.packed import Inputs, PackedEncoder, TensorCache, Tensors, WholeEncoder
from model.qtensor import QTensor
from model.quantize import plain
from model.ragged import RaggedBatch, RaggedLayout

PATH = "tests.doors.affine:AFFINE"
ROWS = 512


@dataclass(frozen=True, kw_only=True)
class AffineConfig:
    family: str = "affine"
    d_model: int = 16
    n_layers: int = 1
    vocab: int = ROWS
    max_sequence: int = 64
    head_features: int = 96
    label_capacity: int = 8
    shown: str = "affine"
    frozen_facts: str = ""

    @property
    def without_labels(self) -> "AffineConfig":
        return replace(self, label_capacity=1)

    def canonical_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def spec_hash(self, inputs_digest: str) -> str:
        return sha256(f"{self.canonical_json()} {inputs_digest}".encode()).hexdigest()


class Words:
    """Reads a text as the numbers of its words."""

    name = "words"
    digest = "words by crc32"
    max_tokens = 64
    probe_texts = ("a refund", "the password of my delivery")
    vocab_size = ROWS

    def encode_many(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]:
        return [[crc32(word.encode()) % ROWS for word in text.split()][: max_tokens or 64] or [0] for text in texts]

    def reads(self, text: str) -> bool:
        return True


class WholeAffine(WholeEncoder):
    config: AffineConfig
    embed: nn.Embedding
    max_trained_layers = 1

    def __init__(self, config: AffineConfig) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embed = nn.Embedding(ROWS, config.d_model)
            self.layers = nn.ModuleList([nn.Linear(config.d_model, config.d_model)])

    def forward(self, batch: RaggedBatch) -> Tensor:
        return self.forward_from(0, self.embed(batch.ids_T), batch.layout)

    def forward_from(
        self, layer: int, x_TD: Tensor, layout: RaggedLayout, *, linear: Linear = full_precision
    ) -> Tensor:
        pieces = layout.split(x_TD)
        return torch.stack([functional.normalize(self.layers[0](x_LD.mean(dim=0)), dim=0) for x_LD in pieces])

    def trainable(self, first_layer: int) -> list[nn.Parameter]:
        return list(self.layers[first_layer:].requires_grad_().parameters())


class PackedAffine:
    """The same, as it is served."""

    precisions = ("fp32",)
    implementation = "torch"
    is_batch_invariant = True
    is_one_block = False
    prefixes = ()

    def __init__(self, whole: WholeAffine, inputs: InputMap) -> None:
        self.config = whole.config
        self.inputs = inputs
        self._whole = whole.requires_grad_(False).eval()

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        z_BD: Tensor = self._whole(batch)
        return z_BD

    vectors = encode

    def encode_prefix(self, batch: RaggedBatch, layer: int, precision: str | None = None) -> Tensor:
        x_TD: Tensor = self._whole.embed(batch.ids_T)
        return x_TD

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout, precision: str | None = None) -> Tensor:
        return self._whole.forward_from(layer, x_TD, layout)

    def encoding(self, digests: Mapping[str, str], max_tokens: int) -> str:
        return ""

    def has_same_shape(self, other: PackedEncoder) -> bool:
        return self.config.without_labels == other.config.without_labels


class AffineFamily:
    name = "affine"

    def claims(self, setting: str) -> bool:
        return setting == "affine"

    def open(self, encoder: str, *, max_tokens: int | None) -> tuple[WholeAffine, Inputs]:
        return WholeAffine(AffineConfig()).eval(), Words()

    def open_inputs(self, encoder: str, *, max_tokens: int | None) -> Inputs:
        return Words()

    def config_from_json(self, text: str) -> AffineConfig:
        try:
            return AffineConfig(**json.loads(text))
        except TypeError as error:
            raise WrongConfig(str(error)) from error

    def precisions(self, config: AffineConfig, schemes: Mapping[str, str]) -> tuple[str, ...]:
        return ("fp32",)

    def pack(self, config: AffineConfig, tensors: Tensors, inputs: Inputs) -> PackedEncoder:
        return PackedAffine(self.restored(config, tensors), InputMap(config.d_model, tensors))

    def quantize_trained(self, whole: WholeAffine, *, first_layer: int | None, grams: Mapping[str, Tensor]) -> Tensors:
        tensors = dict[str, QTensor]()
        for name, value in whole.state_dict().items():
            if first_layer is None or name.startswith("layers."):
                tensors[name] = plain(name, value)
        return tensors

    def quantize_initial(self, whole: WholeAffine, inputs: Inputs, *, first_layer: int, kept: TensorCache) -> Tensors:
        return self.quantize_trained(whole, first_layer=None, grams={})

    def restored(self, config: AffineConfig, tensors: Tensors) -> WholeAffine:
        whole = WholeAffine(config)
        whole.load_state_dict({name: tensors[name].dequantize() for name in whole.state_dict()})
        return whole


AFFINE = AffineFamily()
