"""Writes a plain encoder as the files of a published one, which transformers and sentence-transformers read.

    Strata --the names of BERT--> model.safetensors      its config --> config.json, modules.json, 1_Pooling/config.json

The inverse of `model.bert` and `model.published`: what they read of the folder is the encoder that was written. The
biases that `model.norm_biases` has moved stay where they are; the encoder computes the same.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from model.bert import BLOCK, EMBEDDING
from model.config import StrataConfig
from model.convert.rebuild import state_of
from model.errors import WrongConfig
from model.plan import plan_of
from model.published import AFTER_PADDING, COMPUTED, FIELDS
from model.strata import Strata

QKV = ("query", "key", "value")


def write_published(folder: Path, strata: Strata, tokenizer_json: bytes, *, max_tokens: int) -> None:
    """Writes the files into `folder`. Raises WrongConfig where a published encoder cannot be so."""
    config = strata.config
    if config.layers or config.embed_dim or config.head_width or config.positions != "learned":
        raise WrongConfig("a published encoder has layers that are all alike, share nothing, and learned positions")
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    save_file({name: value.contiguous() for name, value in _tensors(strata).items()}, folder / "model.safetensors")
    for name, content in _files(config, max_tokens).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")


def _tensors(strata: Strata) -> dict[str, Tensor]:
    state = state_of(strata)
    tensors: dict[str, Tensor] = {}
    for ours, theirs in EMBEDDING.items():
        for kind in ("weight", "bias"):
            if f"embed.{ours}.{kind}" in state:
                tensors[f"embeddings.{theirs}.{kind}"] = state[f"embed.{ours}.{kind}"]
    for block in plan_of(strata.config).blocks:
        path = f"encoder.layer.{block.index}"
        for kind in ("weight", "bias"):
            rows = state[f"{block.qkv.path}.{kind}"].chunk(len(QKV))
            tensors |= {f"{path}.attention.self.{name}.{kind}": part for name, part in zip(QKV, rows, strict=True)}
            for ours, theirs in BLOCK.items():
                tensors[f"{path}.{theirs}.{kind}"] = state[f"layers.{block.index}.{ours}.{kind}"]
    return tensors


def _files(config: StrataConfig, max_tokens: int) -> dict[str, Any]:
    is_after_padding = config.first_position > 0
    kind = next(name for name, after in AFTER_PADDING.items() if after == is_after_padding)
    shape: dict[str, Any] = {"model_type": kind, **COMPUTED, "torch_dtype": "float32"}
    shape |= {theirs: getattr(config, ours) for ours, theirs in FIELDS.items()}
    if is_after_padding:
        shape["pad_token_id"] = config.first_position - 1
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if config.normalize:
        modules.append(("2_Normalize", "Normalize"))
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{module}"}
        for place, (path, module) in enumerate(modules)
    ]
    pooling = {
        "word_embedding_dimension": config.d_model,
        "pooling_mode_mean_tokens": config.pooling == "mean",
        "pooling_mode_cls_token": config.pooling == "cls",
    }
    files: dict[str, Any] = {
        "config.json": shape,
        "modules.json": listed,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
    }
    if config.prefix:
        prompts = {"prompts": {"text": config.prefix}, "default_prompt_name": "text"}
        files["config_sentence_transformers.json"] = prompts
    return files
