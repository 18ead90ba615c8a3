"""MiniLM and other BERT-shaped sentence encoders, read from their safetensors file into `Strata`.

The file's names map one to one, except that query, key and value become one matrix. Pooler and unused tensors are left.
Reads config.json for the shape and refuses what the blocks do not compute (another activation, relative positions).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from model.config import StrataConfig
from model.errors import BadBlob, MissingWeight, WrongConfig, WrongShape
from model.norm_biases import fold_norm_biases
from model.source import POSITIONS, encoder_folder
from model.strata import Strata
from model.tokenizer import TextTokenizer

EMBEDDING = {
    "word": "word_embeddings",
    "position": "position_embeddings",
    "segment": "token_type_embeddings",
    "norm": "LayerNorm",
}
"""Our name -> the file's, under `embeddings.`"""

BLOCK = {
    "out": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm2": "output.LayerNorm",
}
"""Our name -> the file's, under `encoder.layer.<i>.`"""

FIELDS = {
    "vocab": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "max_pos": POSITIONS,
    "type_vocab": "type_vocab_size",
    "norm_eps": "layer_norm_eps",
}
"""Our config field -> the one in config.json."""

COMPUTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
"""What config.json must say, where it says anything."""


def load_encoder(encoder: str, *, max_tokens: int | None = None) -> tuple[Strata, TextTokenizer]:
    """The encoder in full precision, centred (`model.norm_biases`), in evaluation mode, and its tokenizer.

    `encoder` is 'minilm-l6', a folder, or a cached Hugging Face id; `max_tokens` is where its tokenizer cuts texts.
    Raises EncoderNotFound, WrongConfig, MissingWeight, WrongShape or BadBlob.
    """
    folder = encoder_folder(encoder)
    strata = Strata(read_config((folder / "config.json").read_text()))
    strata.load_state_dict(state_of(read_tensors(folder / "model.safetensors"), strata))
    return fold_norm_biases(strata).eval(), TextTokenizer.from_folder(folder, max_tokens=max_tokens)


def read_config(text: str) -> StrataConfig:
    """The shape that a BERT config.json describes. Raises WrongConfig."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise WrongConfig(f"config.json is not JSON: {error}") from error
    wrong = {key: found[key] for key, value in COMPUTED.items() if found.get(key, value) != value}
    missing = [name for name in FIELDS.values() if name not in found]
    if wrong or missing:
        raise WrongConfig(f"config.json has {wrong} and lacks {missing}; expected {COMPUTED} and every size")
    return StrataConfig(**{ours: found[theirs] for ours, theirs in FIELDS.items()})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, without the prefix `bert.`"""
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise BadBlob(f"{path.name}: {error}") from error
    return {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}


def state_of(tensors: Mapping[str, Tensor], strata: Strata) -> dict[str, Tensor]:
    """The state dict of `strata` from BERT's tensors. Raises MissingWeight or WrongShape, naming the weight."""
    state: dict[str, Tensor] = dict(strata.named_buffers())  # ours alone
    for name, parameter in strata.named_parameters():
        sources = _sources(name)
        missing = [source for source in sources if source not in tensors]
        if missing:
            raise MissingWeight(f"{name}: the file has no {', '.join(missing)}")
        state[name] = torch.cat([tensors[source].float() for source in sources])
        if state[name].shape != parameter.shape:
            raise WrongShape(f"{name}: {tuple(state[name].shape)} in the file; expected {tuple(parameter.shape)}")
    return state


def _sources(name: str) -> list[str]:
    """The file's names whose tensors, one below the other, make ours."""
    path, kind = name.rsplit(".", 1)
    if path.startswith("embed."):
        return [f"embeddings.{EMBEDDING[path.removeprefix('embed.')]}.{kind}"]
    _, index, part = path.split(".")
    prefix = f"encoder.layer.{index}"
    if part == "qkv":
        return [f"{prefix}.attention.self.{head}.{kind}" for head in ("query", "key", "value")]
    return [f"{prefix}.{BLOCK[part]}.{kind}"]
