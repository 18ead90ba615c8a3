"""Runs one encoder alone in a process, ours or the plain one, and says what it takes.

    python -m bench.techniques.lone_server NAME LENGTH SECONDS

The plain one is float32 in eager torch. Every text has LENGTH tokens, so a padded batch holds no padding; up to 512 it
has MiniLM's learned positions and full attention, beyond them it rotates queries and keys. Ours is the same encoder in
INT8, and beyond 512 tokens its heads see a window, sinks and routed blocks, as in row E1. Weights are random: neither
time nor memory depends on them.

Prints JSON: `memory`, the most MiB beyond the process without a model, while it answers; `p50`, ms for a text; `rate`,
texts/s in batches. Times are processor times on one thread.
"""

import ctypes
import gc
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from bench.harness.timing import thread_times_s
from model.config import MINILM_L6, Span, StrataConfig
from model.quantized import INT8, QuantizedEncoder
from model.ragged import RaggedBatch
from model.strata import Strata
from model.weights import encoder_tensors

OURS, PLAIN = NAMES = ("ours", "plain")
LEARNED_POSITIONS = 512
ROUTED = Span(kind="topk", window=64, sinks=4, block=64, topk=4)
BATCH = 8


def main(name: str, length: int, seconds: float) -> Mapping[str, float]:
    """Measures the encoder of that name."""
    torch.set_num_threads(1)
    with torch.no_grad():
        nn.Linear(8, 8)(torch.zeros(1, 8))  # loads what every encoder needs
        before = _resident("VmRSS")
        encode = encoder_of(name, length)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again
        one_s, many_s = (thread_times_s(partial(encode, _batch(num, length)), seconds) for num in (1, BATCH))
    memory = (_resident("VmHWM") - before) / 1024
    return {"memory": memory, "p50": 1e3 * median(one_s), "rate": BATCH / median(many_s)}


def encoder_of(name: str, length: int) -> Callable[[RaggedBatch], Tensor]:
    """Returns the encoder; in full precision it has full attention."""
    strata = Strata(config_of(length, is_routed=False)).eval().requires_grad_(False)
    if name == PLAIN:
        return strata
    config = config_of(length, is_routed=True)
    return partial(QuantizedEncoder.from_tensors(config, encoder_tensors(strata)).encode, precision=INT8)


def config_of(length: int, *, is_routed: bool) -> StrataConfig:
    """Returns MiniLM's shape for texts of that length."""
    if length <= LEARNED_POSITIONS:
        return MINILM_L6
    config = replace(MINILM_L6, positions="rope", max_pos=length)
    return config.with_span(ROUTED) if is_routed else config


def _batch(num_texts: int, length: int) -> RaggedBatch:
    generator = torch.Generator().manual_seed(num_texts)
    return RaggedBatch.of(torch.randint(0, MINILM_L6.vocab, (num_texts, length), generator=generator).tolist())


def _resident(field: str) -> int:
    """Returns the resident memory of this process, now or at most, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
