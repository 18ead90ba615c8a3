"""The inverse of compression: a plain encoder that computes the same as a compressed one, for other programs.

    shared matrices + low-rank additions -> a matrix of its own for each layer
    factorised embedding                 -> one table
    grouped keys and values              -> repeated for every head
    removed heads, narrower inner parts  -> zeros

    to_dense --> plain Strata --write_published--> files that transformers and sentence-transformers read
                              --PaddedEncoder----> a torch module over padded texts, for other runtimes

Tests compare compressed encoders with the plain encoder. `write_published` is the inverse of `model.bert` and
`model.published`: they read the same encoder from the folder. The biases that `model.bert` has moved out of the norms
are not moved back, since the encoder computes the same.

`PaddedEncoder` pads texts to a rectangle with a mask over the padding. It has the weights of `Strata` in full
precision. The peers in the benchmarks and the `model.onnx` of an exported version are made from it. Its attention has
two forms:
`fused=True` calls torch's fused operation, which is the fastest in torch and OpenVINO. `fused=False` uses the single
operations that ONNX Runtime's graph optimizer recognises.

Shape suffixes: B texts, T tokens of the longest, D width.
"""

import json
import math
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from model.architectures import AFTER_PADDING, BERT, FIELDS
from model.config import StrataConfig
from model.errors import WrongConfig
from model.linears import effective_weight, linear_at
from model.plan import BlockPlan, build_plan
from model.strata import Block, State, Strata, rebuilt, state_of


@torch.no_grad()
def to_dense(strata: Strata) -> Strata:
    """Returns an encoder with the same outputs whose layers have equal shapes and share no matrices.

    Raises WrongConfig if a span limits a head.
    """
    config = strata.config
    plan = build_plan(config)
    spans = chain.from_iterable(block.spans for block in plan.blocks)
    if any(span.kind != "full" for _, span in spans):
        raise WrongConfig("some heads have limited spans; in a plain encoder every head sees all keys")
    has_one_base = all(block.rope_base in (None, config.rope_base) for block in plan.blocks)
    if not has_one_base or not replace(config, positions="learned").is_bert:
        raise WrongConfig("a plain encoder has the parts of BERT; this one has other norms, gates or rotations")
    heads = max(config.n_heads, *(block.heads for block in plan.blocks))
    inner = max(config.d_ff, *(block.inner for block in plan.blocks))
    old = state_of(strata)
    state = {name: value for name, value in old.items() if name.startswith("embed.") or ".norm" in name}
    if plan.embedding.expand is not None:
        state["embed.word.weight"] = state["embed.word.weight"] @ state.pop("embed.expand.weight").t()
    for block in plan.blocks:
        state |= _dense_block(strata, old, block, heads, inner)
    width = 0 if heads * config.width_of_head == config.d_model else config.width_of_head
    plain = replace(config, layers=(), embed_dim=0, n_heads=heads, d_ff=inner, head_width=width)
    return rebuilt(plain, state)


def _dense_block(strata: Strata, old: State, block: BlockPlan, heads: int, inner: int) -> State:
    """Returns the matrices of a layer, padded with zeros to `heads` heads and `inner` inner units."""
    weights = {matrix.path: effective_weight(linear_at(strata, matrix.path)) for matrix in block.matrices}
    biases = {matrix.path: old[f"{matrix.path}.bias"] for matrix in block.matrices}
    qkv, out, up, down = (matrix.path for matrix in block.matrices)
    mixed = heads * block.head_width
    state = {
        f"{qkv}.weight": _repeat_kv_heads(block, weights[qkv], heads),
        f"{qkv}.bias": _repeat_kv_heads(block, biases[qkv], heads),
        f"{out}.weight": _pad_rows(weights[out].t(), mixed).t().contiguous(),
        f"{out}.bias": biases[out],
        f"{up}.weight": _pad_rows(weights[up], inner),
        f"{up}.bias": _pad_rows(biases[up], inner),
        f"{down}.weight": _pad_rows(weights[down].t(), inner).t().contiguous(),
        f"{down}.bias": biases[down],
    }
    for matrix in block.matrices:
        if matrix.in_scale:
            state[f"{matrix.path}.in_scale"] = old[f"{matrix.name}.in_scale"]
    return state


def _repeat_kv_heads(block: BlockPlan, qkv: Tensor, heads: int) -> Tensor:
    """Returns the rows of q, k and v with a key-value head for every query head, padded with zeros to `heads` heads."""
    counts = (block.heads, block.kv_heads, block.kv_heads)
    parts = torch.split(qkv, [count * block.head_width for count in counts])
    group = block.heads // block.kv_heads
    by_head = [part.reshape(-1, block.head_width, *part.shape[1:]) for part in parts]
    by_head[1:] = [part.repeat_interleave(group, dim=0) for part in by_head[1:]]
    return torch.cat([_pad_rows(part, heads).flatten(0, 1) for part in by_head])


def _pad_rows(rows: Tensor, num_rows: int) -> Tensor:
    padding = torch.zeros(num_rows - len(rows), *rows.shape[1:])
    return torch.cat((rows, padding))


def write_published(folder: Path, strata: Strata, tokenizer_json: bytes, *, max_tokens: int) -> None:
    """Writes the files of a published encoder into the new folder `folder`.

    Raises WrongConfig if the format cannot represent the encoder: it needs a plain encoder with the parts of BERT.
    """
    config = strata.config
    if config.layers or config.embed_dim or config.head_width or not config.is_bert:
        raise WrongConfig(
            "a published encoder has layers of equal shapes that share no matrices, and the parts of BERT; use to_dense"
        )
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    tensors = {name: value.contiguous() for name, value in _published_tensors(strata).items()}
    save_file(tensors, folder / "model.safetensors")
    for name, content in _published_files(config, max_tokens).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")


def _published_tensors(strata: Strata) -> dict[str, Tensor]:
    """Returns the weights by their published names."""
    state = state_of(strata)
    tensors: dict[str, Tensor] = {}
    last_layer = strata.config.n_layers - 1
    for name, value in state.items():
        if name.endswith((".weight", ".bias")):
            names = BERT.names(name, last_layer=last_layer)
            tensors |= zip(names, value.chunk(len(names)), strict=True)
    return tensors


def _published_files(config: StrataConfig, max_tokens: int) -> dict[str, Any]:
    """Returns the contents of the JSON files, by path."""
    is_after_padding = config.first_position > 0
    kind = next(name for name, after in AFTER_PADDING.items() if after == is_after_padding)
    shape: dict[str, Any] = {"model_type": kind, **BERT.computed, "torch_dtype": "float32"}
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


MASKED = -10000.0
"""The term that is added to the scores of padding. ONNX Runtime's optimizer recognises this number."""


class PaddedBlock(nn.Module):
    """A layer of the padded encoder."""

    def __init__(self, block: Block, *, fused: bool) -> None:
        super().__init__()
        self.num_heads = block.plan.heads
        self.fused = fused
        self.query, self.key, self.value = _split_qkv(block.qkv)
        self.out = block.out
        self.norm1 = block.norm1
        self.up = block.up
        self.down = block.down
        self.norm2 = block.norm2

    def forward(self, x_BTD: Tensor, bias_B11T: Tensor) -> Tensor:
        q, k, v = (self._heads(part(x_BTD)) for part in (self.query, self.key, self.value))
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias_B11T)
        else:
            scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
            mixed = torch.matmul(functional.softmax(scores + bias_B11T, dim=-1), v)
        mixed_BTD = mixed.permute(0, 2, 1, 3).reshape(x_BTD.shape[0], x_BTD.shape[1], x_BTD.shape[2])
        x_BTD = self.norm1(self.out(mixed_BTD) + x_BTD)
        y_BTD: Tensor = self.norm2(self.down(functional.gelu(self.up(x_BTD))) + x_BTD)
        return y_BTD

    def _heads(self, x_BTD: Tensor) -> Tensor:
        width = x_BTD.shape[2] // self.num_heads
        return x_BTD.view(x_BTD.shape[0], x_BTD.shape[1], self.num_heads, width).permute(0, 2, 1, 3)


class PaddedEncoder(nn.Module):
    """A plain encoder over padded texts. It shares its tensors with the `Strata` from which it is made."""

    def __init__(self, strata: Strata, *, fused: bool = True) -> None:
        super().__init__()
        embed = strata.embed
        self.word = embed.word
        assert embed.position is not None, "a padded encoder needs learned positions"
        self.position_PD = nn.Parameter(embed.position.weight[embed.first_position :].detach(), requires_grad=False)
        self.pools_first = strata.config.pooling == "cls"
        self.norm = embed.norm
        self.segment_D = nn.Parameter(embed.segment.weight[0].detach(), requires_grad=False)
        blocks = [block for block in strata.layers if isinstance(block, Block)]
        self.blocks = nn.ModuleList(PaddedBlock(block, fused=fused) for block in blocks)
        self.requires_grad_(False).eval()

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Returns z_BD of unit length. `mask_BT` is 1 for tokens and 0 for padding."""
        mask = mask_BT.to(torch.float32)
        x_BTD = self.norm(self.word(ids_BT) + self.position_PD[: ids_BT.shape[1]] + self.segment_D)
        bias_B11T = (1.0 - mask[:, None, None, :]) * MASKED
        for block in self.blocks:
            x_BTD = block(x_BTD, bias_B11T)
        if self.pools_first:
            return functional.normalize(x_BTD[:, 0], dim=1)
        weight_BT1 = mask[:, :, None]
        return functional.normalize((x_BTD * weight_BT1).sum(1) / weight_BT1.sum(1), dim=1)


def _split_qkv(qkv: nn.Linear) -> list[nn.Linear]:
    """Returns the projections of queries, keys and values as layers of their own, which share the tensors."""
    parts: list[nn.Linear] = []
    for weight, bias in zip(qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True):
        part = nn.Linear(weight.shape[1], weight.shape[0])
        part.weight = nn.Parameter(weight.detach())
        part.bias = nn.Parameter(bias.detach())
        parts.append(part)
    return parts
