"""Folders of small encoders with random weights, as BERT, RoBERTa and XLM-R are published.

The folders are as `transformers` and `sentence-transformers` write them, and `reference` computes from the same files
what these libraries compute, without a line of the code that is tested.
"""

import json
import math
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional

WIDTH: Final = 64
HEADS: Final = 4
LAYERS: Final = 2
INNER: Final = 128

KINDS = ("bert", "roberta", "xlm-roberta")

TEXTS = ("where is my card", "a", "", "my card is not here, where is it? " * 3)

FAMILY: Final[dict[str, dict[str, Any]]] = {
    "bert": {"max_position_embeddings": 48, "type_vocab_size": 2, "pad_token_id": 0, "layer_norm_eps": 1e-12},
    "roberta": {"max_position_embeddings": 50, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5},
    "xlm-roberta": {"max_position_embeddings": 50, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5},
}
"""The fields of config.json that differ."""

NUM_POSITIONS = 48
"""The positions that texts can use. RoBERTa and XLM-R have 50 positions, of which two are not used."""

FIRST_POSITION = {"bert": 0, "roberta": 2, "xlm-roberta": 2}


def write_encoder(
    folder: Path,
    kind: str = "bert",
    *,
    pooling: str = "mean",
    modules: tuple[str, ...] = ("Normalize",),
    tokenizer_kind: str = "",
    **fields: Any,
) -> Path:
    """Writes an encoder with random weights to `folder`, and returns it.

    `fields` are fields of config.json. `tokenizer_kind` is the family of the tokenizer, by default the encoder's.
    """
    tokenizer = make_tokenizer(tokenizer_kind or kind)
    config = {
        "model_type": kind,
        "hidden_act": "gelu",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
    }
    config |= FAMILY[kind] | fields
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "config.json", config)
    write_modules(folder, pooling=pooling, modules=modules)
    safetensors.torch.save_file(random_tensors(config), folder / "model.safetensors")
    return folder


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def write_modules(folder: Path, *, pooling: str = "mean", modules: tuple[str, ...] = ("Normalize",)) -> None:
    """Writes modules.json and the pooling's config: a Transformer, its Pooling, and `modules` after them."""
    paths = {"Transformer": "", "Pooling": "1_Pooling"} | {name: f"2_{name}" for name in modules}
    entries: list[dict[str, Any]] = []
    for name, path in paths.items():
        number = len(entries)
        entries.append(
            {"idx": number, "name": f"{number}", "path": path, "type": f"sentence_transformers.models.{name}"}
        )
    write_json(folder / "modules.json", entries)
    write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": WIDTH, "pooling_mode": pooling})


def make_tokenizer(kind: str) -> Tokenizer:
    """Returns a tokenizer with the algorithm and the special tokens of the family, whose tokens are letters."""
    letters = sorted(set("".join(TEXTS).replace(" ", "")))
    if kind == "bert":
        tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
        vocab = {token: index for index, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        return tokenizer
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    if kind == "roberta":
        tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        pieces = [(token, 0.0) for token in special] + [(letter, -3.0) for letter in ("\u2581", *letters)]
        tokenizer = Tokenizer(models.Unigram([*pieces, ("\u2581where", -2.0)], unk_id=3))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def random_tensors(config: dict[str, Any]) -> dict[str, Tensor]:
    """Returns weights by the names of transformers, as large as trained weights."""
    generator = torch.Generator().manual_seed(0)
    width = config["hidden_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
    }
    norms = ["embeddings.LayerNorm"]
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}"
        matrices: dict[str, tuple[int, int]] = {}
        matrices |= {f"attention.self.{name}": (width, width) for name in ("query", "key", "value")}
        matrices |= {"attention.output.dense": (width, width)}
        matrices |= {"intermediate.dense": (INNER, width), "output.dense": (width, INNER)}
        for name, shape in matrices.items():
            shapes[f"{layer}.{name}.weight"] = shape
            shapes[f"{layer}.{name}.bias"] = shape[:1]
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    tensors = {name: torch.randn(shape, generator=generator) * shape[-1] ** -0.5 for name, shape in shapes.items()}
    for name in norms:
        tensors[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        tensors[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)
    return tensors


def reference(folder: Path, text: str) -> Tensor:
    """Returns the rows of the tokens of a text after the last block, float32 [tokens, width]."""
    config = json.loads((folder / "config.json").read_text())
    tensors = random_tensors(config)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(NUM_POSITIONS)
    ids = torch.tensor(tokenizer.encode(text).ids)
    eps = config["layer_norm_eps"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (WIDTH,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps)

    positions = torch.arange(len(ids)) + FIRST_POSITION[config["model_type"]]
    embedded = tensors["embeddings.word_embeddings.weight"][ids] + tensors["embeddings.token_type_embeddings.weight"][0]
    x = norm(embedded + tensors["embeddings.position_embeddings.weight"][positions], "embeddings.LayerNorm")
    for index in range(LAYERS):
        layer = f"encoder.layer.{index}"
        rows = [linear(x, f"{layer}.attention.self.{name}") for name in ("query", "key", "value")]
        query, key, value = (each.view(-1, HEADS, WIDTH // HEADS).transpose(0, 1) for each in rows)
        weights = (query @ key.transpose(1, 2) / math.sqrt(WIDTH // HEADS)).softmax(dim=-1)
        mixed = (weights @ value).transpose(0, 1).reshape(-1, WIDTH)
        x = norm(x + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        inner = functional.gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x
