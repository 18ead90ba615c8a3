"""Says what an encoder is and what it costs, counted from its config (`model.cost`)."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from model.config import StrataConfig
from model.cost import BF16, flops, num_bytes, parameters
from model.plan import BlockPlan, plan_of
from model.qtensor import FP32, W4G64

SCHEMES = (FP32, BF16, W4G64)
"""Besides the stored schemes, what all matrices would take in these."""


def described(config: StrataConfig, num_tokens: Sequence[int]) -> dict[str, Any]:
    """Returns the shape and the costs; operations are those of one text of so many tokens."""
    counted = parameters(config)
    return {
        "config": json.loads(config.canonical_json()),
        "parameters": dataclasses.asdict(counted) | {"total": counted.total},
        "bytes": {"stored": num_bytes(config)} | {scheme: num_bytes(config, scheme) for scheme in SCHEMES},
        "flops": {str(length): _operations(config, length) for length in num_tokens},
    }


def lines(config: StrataConfig, num_tokens: Sequence[int]) -> Iterator[str]:
    """Yields the same for people."""
    facts = described(config, num_tokens)
    yield from (_layer(block) for block in plan_of(config).blocks)
    parts = ", ".join(f"{name} {number / 1e6:.2f} M" for name, number in facts["parameters"].items() if name != "total")
    yield f"parameters {facts['parameters']['total'] / 1e6:.2f} M: {parts}"
    yield "bytes      " + ", ".join(f"{name} {number / 1e6:.1f} MB" for name, number in facts["bytes"].items())
    for length, operations in facts["flops"].items():
        share = operations["attention"] / operations["total"]
        yield f"{length:>6} tokens: {operations['total'] / 1e9:.2f} GFLOP, {share:.0%} of them attention"


def _operations(config: StrataConfig, num_tokens: int) -> dict[str, int]:
    counted = flops(config, num_tokens)
    return dataclasses.asdict(counted) | {"total": counted.total}


def _layer(block: BlockPlan) -> str:
    spans = ", ".join(f"{heads} {span.kind}" for heads, span in block.spans)
    tied = ", ".join(
        f"{matrix.path.rpartition('.')[2]} of {matrix.name}" for matrix in block.matrices if not matrix.is_first
    )
    rank = max(matrix.lora_rank for matrix in block.matrices)
    shared = f"; {tied}" + (f", rank {rank} of its own" if rank else "") if tied else ""
    heads = f"{spans} heads x {block.head_width}, {block.kv_heads} of keys"
    return f"layer {block.index}: {heads}, inner {block.inner}{shared}"
