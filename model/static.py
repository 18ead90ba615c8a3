"""The family `static`: the vector of a text is the sum of vectors of its tokens and pairs of tokens, from one table.

    a folder: config.json, tokenizer.json, model.safetensors --open--> WholeStatic, the tokenizer of its teacher
    token ids --rows: each token, and each pair of neighbours that the table has--> sum of the rows --> z_BD

No token attends to another one, so a text takes microseconds. `lifelong.compress.static` makes such an encoder from a
transformer, as model2vec does (Minish Lab, `github.com/MinishLab/model2vec`), with two changes. The length of a row is
the weight of its token, so no weights are stored. And frequent pairs of neighbouring tokens have rows of their own (bag
of tricks: Joulin et al., arXiv 1607.01759, section 2.1), because a sum of tokens does not know "not good" from "good".

The tokenizer is the teacher's, and so is its digest. So a running service can change between the two encoders.

The stored table is INT8, with a scale for each row. A served encoder keeps its rows as float32: then a sum has only
additions, in the order of the tokens, and it does not depend on the other texts of the batch.

Shape suffixes: T tokens of all texts, B texts, D width, V rows of the table, P pairs.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from model.config import STATIC_FAMILY, StaticConfig
from model.errors import BadBlob, WrongConfig, WrongShape
from model.inputs import InputMap
from model.linears import Linear, full_precision
from model.member import CONFIG, TOKENIZER, WEIGHTS
from model.packed import Inputs, PackedEncoder, TensorCache, Tensors, WholeEncoder
from model.qtensor import FP32, W8C
from model.quantize import plain, quantize_w8c
from model.quantized import INT8
from model.ragged import RaggedBatch, RaggedLayout
from model.source import encoder_folder, family_in
from model.tokenizer import TextTokenizer
from model.weights import check_weight

TABLE: Final = "embed.table"
PAIRS: Final = "embed.pairs"

HISTORY: Final = "history.json"
"""The file that says how an encoder was made."""


class StaticTable(nn.Module):
    """The rows of tokens and pairs, and their sums for each text. `pairs` are the known pairs in ascending order.

    `table` is float32 [V, D], `pairs` int64 [P, 2]: the left and the right token of each pair. Raises WrongConfig for
    pairs in another order.
    """

    pairs: Tensor
    _keys_P: Tensor

    def __init__(self, table_VD: Tensor, pairs_P2: Tensor, *, vocab: int) -> None:
        super().__init__()
        self.table = nn.Parameter(table_VD)
        self.register_buffer("pairs", pairs_P2)
        # One number for each pair, which also contains no two pairs twice.
        self.register_buffer("_keys_P", pairs_P2[:, 0] * vocab + pairs_P2[:, 1], persistent=False)
        self._vocab = vocab
        is_sorted = bool((self._keys_P.diff() > 0).all())
        if not is_sorted or (len(pairs_P2) and not 0 <= int(pairs_P2.min()) <= int(pairs_P2.max()) < vocab):
            raise WrongConfig(f"{PAIRS}: expected different pairs of tokens below {vocab}, in ascending order")

    def rows(self, batch: RaggedBatch, starts_B: Tensor) -> Tensor:
        """Returns the rows [T, 2] of each token, and of the pair of its left neighbour and itself. Raises BadTokens.

        `starts_B` are the places of the first tokens of texts, which have no left neighbour.
        """
        # A longer text is the tokenizer's concern: the table has no positions.
        batch.check(self._vocab, batch.layout.num_tokens)
        ids_T = batch.ids_T
        unknown = self._vocab + len(self.pairs)
        if not len(self.pairs):
            return torch.stack([ids_T, torch.full_like(ids_T, unknown)], dim=1)
        keys_T = ids_T.roll(1) * self._vocab + ids_T
        keys_T[starts_B] = -1
        place_T = torch.searchsorted(self._keys_P, keys_T).clamp_max_(len(self.pairs) - 1)
        is_known_T = self._keys_P[place_T] == keys_T
        return torch.stack([ids_T, torch.where(is_known_T, self._vocab + place_T, unknown)], dim=1)

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Returns the sums y_BD of the rows of each text, not normalised, in the caller's order. Raises BadTokens."""
        starts_B = torch.tensor(batch.offsets[:-1])
        rows_T2 = self.rows(batch, starts_B)
        y_BD = functional.embedding_bag(rows_T2.flatten(), self.table, 2 * starts_B, mode="sum")
        return batch.layout.restore(y_BD)


class WholeStatic(WholeEncoder):
    """The encoder in full precision. It has no blocks, so slow rounds do not train it."""

    config: StaticConfig
    embed: StaticTable
    max_trained_layers = 0

    def __init__(self, config: StaticConfig, table: StaticTable) -> None:
        super().__init__()
        self.config = config
        self.embed = table
        self.layers = nn.ModuleList()
        shapes = {"table": (config.rows, config.d_model), "pairs": (config.pairs, 2)}
        for name, shape in shapes.items():
            found = tuple(getattr(table, name).shape)
            if found != shape:
                raise WrongShape(f"embed.{name}: {list(found)}; expected {list(shape)}")

    def forward(self, batch: RaggedBatch) -> Tensor:
        return functional.normalize(self.embed(batch), dim=1)

    def forward_from(
        self, layer: int, x_TD: Tensor, layout: RaggedLayout, *, linear: Linear = full_precision
    ) -> Tensor:
        """Returns z_BD from the token ids x_T1, since nothing lies above the table. `linear` is not used."""
        z_BD: Tensor = self(RaggedBatch(x_TD[:, 0].long(), layout))
        return z_BD

    def trainable(self, first_layer: int) -> list[nn.Parameter]:
        return []


class PackedStatic:
    """The encoder as it is served. Immutable; threads may share it."""

    precisions = (INT8,)
    implementation = "torch"
    is_batch_invariant = True
    is_one_block = True
    prefixes = ()

    def __init__(self, whole: WholeStatic, inputs: InputMap) -> None:
        self.config = whole.config
        self.inputs = inputs
        self._whole = whole.requires_grad_(False)

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Returns z_BD of unit length. Raises BadTokens, or ValueError for an unknown precision."""
        if precision not in (None, INT8):
            raise ValueError(f"precision is {precision!r}; expected {INT8}")
        z_BD: Tensor = self._whole(batch)
        return z_BD

    vectors = encode

    def encode_prefix(self, batch: RaggedBatch, layer: int, precision: str | None = None) -> Tensor:
        """Returns x_T1, the token ids: nothing lies below the table."""
        return batch.ids_T[:, None]

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout, precision: str | None = None) -> Tensor:
        return self.encode(RaggedBatch(x_TD[:, 0], layout), precision)

    def encoding(self, digests: Mapping[str, str], max_tokens: int) -> str:
        """Returns "": torch sums the squares of a vector in an order that depends on the processor."""
        return ""

    def has_same_shape(self, other: PackedEncoder) -> bool:
        return self.config.without_labels == other.config.without_labels


class StaticFamily:
    """The family `static`. It claims folders whose config.json names it. `EncoderFamily` documents its methods."""

    name = STATIC_FAMILY

    def claims(self, setting: str) -> bool:
        return family_in(setting) == STATIC_FAMILY

    def open(self, encoder: str, *, max_tokens: int | None) -> tuple[WholeStatic, Inputs]:
        folder = encoder_folder(encoder)
        config, inputs = _opened(folder, max_tokens)
        try:
            state = load_file(folder / WEIGHTS)
            table = StaticTable(state[TABLE], state[PAIRS], vocab=config.vocab)
        except (safetensors.SafetensorError, KeyError, IndexError) as error:
            raise BadBlob(f"{folder / WEIGHTS} cannot be read: {error!r}") from error
        return WholeStatic(config, table).eval(), inputs

    def open_inputs(self, encoder: str, *, max_tokens: int | None) -> Inputs:
        return _opened(encoder_folder(encoder), max_tokens)[1]

    def config_from_json(self, text: str) -> StaticConfig:
        return StaticConfig.from_json(text)

    def precisions(self, config: StaticConfig, schemes: Mapping[str, str]) -> tuple[str, ...]:
        return PackedStatic.precisions

    def pack(self, config: StaticConfig, tensors: Tensors, inputs: Inputs) -> PackedEncoder:
        return PackedStatic(self.restored(config, tensors), InputMap(config.d_model, tensors))

    def quantize_trained(self, whole: WholeStatic, *, first_layer: int | None, grams: Mapping[str, Tensor]) -> Tensors:
        if first_layer is not None:
            return {}
        # Token ids are far below 2^24, so float32 holds them exactly.
        pairs = {PAIRS: plain(PAIRS, whole.embed.pairs.float())} if whole.config.pairs else {}
        return pairs | {TABLE: quantize_w8c(TABLE, whole.embed.table)}

    def quantize_initial(self, whole: WholeStatic, inputs: Inputs, *, first_layer: int, kept: TensorCache) -> Tensors:
        """Rounds to the nearest integers, which takes too little time for a cache."""
        return self.quantize_trained(whole, first_layer=None, grams={})

    def restored(self, config: StaticConfig, tensors: Tensors) -> WholeStatic:
        table_VD = check_weight(tensors, TABLE, W8C, (config.rows, config.d_model)).dequantize()
        pairs_P2 = torch.empty(0, 2)
        if config.pairs:
            pairs_P2 = check_weight(tensors, PAIRS, FP32, (config.pairs, 2)).dequantize()
        return WholeStatic(config, StaticTable(table_VD, pairs_P2.long(), vocab=config.vocab)).eval()


STATIC: Final = StaticFamily()


def encoder_files(
    whole: WholeStatic, tokenizer_json: bytes, history: Sequence[Mapping[str, object]]
) -> dict[str, bytes]:
    """Returns the files of an encoder's folder by name. `history` says how it was made.

    The config is last: if the files are written in this order, a folder that the family claims is complete.
    """
    state = {TABLE: whole.embed.table.detach(), PAIRS: whole.embed.pairs}
    return {
        TOKENIZER: tokenizer_json,
        WEIGHTS: save({name: value.contiguous() for name, value in state.items()}),
        HISTORY: json.dumps(list(history), indent=2).encode(),
        CONFIG: whole.config.canonical_json().encode(),
    }


def _opened(folder: Path, max_tokens: int | None) -> tuple[StaticConfig, TextTokenizer]:
    config = StaticConfig.from_json((folder / CONFIG).read_text())
    limit = max_tokens or config.max_sequence
    if limit > config.max_sequence:
        raise WrongConfig(f"max_tokens is {limit}, but {config.shown} reads at most {config.max_sequence}")
    tokenizer = TextTokenizer((folder / TOKENIZER).read_bytes(), max_tokens=limit, prefix=config.prefix)
    if tokenizer.vocab_size > config.vocab:
        raise WrongConfig(f"{folder}: {TOKENIZER} has {tokenizer.vocab_size} tokens, but the table {config.vocab}")
    return config, tokenizer
