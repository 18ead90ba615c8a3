"""BERT-shaped sentence encoders, MiniLM among them, read from their safetensors file into `Strata`.

The file's names map one to one, except that query, key and value become one matrix. The pooler and unused tensors are
ignored. config.json gives the shape; a model that the blocks do not implement (another activation, relative positions)
is refused.
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
"""Our name -> the name in the file, below `embeddings.`"""

BLOCK = {
    "out": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm2": "output.LayerNorm",
}
"""Our name -> the name in the file, below `encoder.layer.<i>.`"""

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
"""Our config field -> the field in config.json."""

COMPUTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
"""The only values that these fields of config.json may have; a field may be absent."""


def load_encoder(encoder: str, *, max_tokens: int | None = None) -> tuple[Strata, TextTokenizer]:
    """Returns the encoder in full precision, in evaluation mode, and its tokenizer.

    The biases of its norms are folded (`model.norm_biases`). `encoder` is 'minilm-l6', a folder, or a cached Hugging
    Face id; its tokenizer truncates texts to `max_tokens`. Raises EncoderNotFound, WrongConfig, MissingWeight,
    WrongShape or BadBlob.
    """
    folder = encoder_folder(encoder)
    strata = Strata(read_config((folder / "config.json").read_text()))
    strata.load_state_dict(state_of(read_tensors(folder / "model.safetensors"), strata))
    return fold_norm_biases(strata).eval(), TextTokenizer.from_folder(folder, max_tokens=max_tokens)


def read_config(text: str) -> StrataConfig:
    """Returns the shape that a BERT config.json describes. Raises WrongConfig."""
    try:
        fields: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise WrongConfig(f"config.json is not JSON: {error}") from error
    wrong = {key: fields[key] for key, value in COMPUTED.items() if fields.get(key, value) != value}
    missing = [name for name in FIELDS.values() if name not in fields]
    if wrong or missing:
        raise WrongConfig(f"config.json has {wrong} and lacks {missing}; expected {COMPUTED} and every size")
    return StrataConfig(**{ours: fields[theirs] for ours, theirs in FIELDS.items()})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns all tensors of a safetensors file, without the prefix `bert.` of their names. Raises BadBlob."""
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise BadBlob(f"{path.name}: {error}") from error
    return {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}


def state_of(tensors: Mapping[str, Tensor], strata: Strata) -> dict[str, Tensor]:
    """Returns the state dict of `strata` from BERT's tensors.

    Raises MissingWeight or WrongShape, naming the weight.
    """
    state: dict[str, Tensor] = dict(strata.named_buffers())  # the file has no buffers
    for name, parameter in strata.named_parameters():
        file_names = _file_names(name)
        missing = [file_name for file_name in file_names if file_name not in tensors]
        if missing:
            raise MissingWeight(f"{name}: the file has no {', '.join(missing)}")
        state[name] = torch.cat([tensors[file_name].float() for file_name in file_names])
        if state[name].shape != parameter.shape:
            raise WrongShape(f"{name}: {tuple(state[name].shape)} in the file; expected {tuple(parameter.shape)}")
    return state


def _file_names(name: str) -> list[str]:
    """Returns the names in the file of the tensors that are concatenated to the parameter `name`."""
    path, kind = name.rsplit(".", 1)
    if path.startswith("embed."):
        return [f"embeddings.{EMBEDDING[path.removeprefix('embed.')]}.{kind}"]
    _, index, part = path.split(".")
    prefix = f"encoder.layer.{index}"
    if part == "qkv":
        return [f"{prefix}.attention.self.{head}.{kind}" for head in ("query", "key", "value")]
    return [f"{prefix}.{BLOCK[part]}.{kind}"]
