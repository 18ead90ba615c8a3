"""Runs one encoder alone in a process, ours or the plain one, and measures its memory and speed.

    python -m bench.techniques.lone_server NAME LENGTH SECONDS

The plain encoder is float32 in eager torch. Every text has LENGTH tokens, so batches need no padding. Up to 512 tokens
the encoder has MiniLM's learned positions and full attention; for longer texts it has rotary positions. Our encoder is
the same in INT8, except that for longer texts its heads see a window, sinks and routed blocks, as in row E1. Weights
are random, because neither time nor memory depends on them.

Prints JSON:

- `memory`: the peak memory while it answers, in MiB, minus the memory of the process without a model
- `p50`: the median time of one text, in ms
- `rate`: texts a second, in batches

Times are processor times on one thread.
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
    """Measures the encoder of that name, on texts of `length` tokens, for `seconds` in each measurement."""
    torch.set_num_threads(1)
    with torch.no_grad():
        # The first layer loads torch's libraries, which every encoder needs.
        nn.Linear(8, 8)(torch.zeros(1, 8))
        before = _resident("VmRSS")
        encode = make_encoder(name, length)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        # Linux resets the peak VmHWM to the current memory.
        Path("/proc/self/clear_refs").write_text("5")
        one_s, many_s = (thread_times_s(partial(encode, _batch(num, length)), seconds) for num in (1, BATCH))
    memory = (_resident("VmHWM") - before) / 1024
    return {"memory": memory, "p50": 1e3 * median(one_s), "rate": BATCH / median(many_s)}


def make_encoder(name: str, length: int) -> Callable[[RaggedBatch], Tensor]:
    """Returns the encoder of that name. The plain encoder has full attention at every length."""
    strata = Strata(shape_for(length, is_routed=False)).eval().requires_grad_(False)
    if name == PLAIN:
        return strata
    config = shape_for(length, is_routed=True)
    return partial(QuantizedEncoder.from_tensors(config, encoder_tensors(strata)).encode, precision=INT8)


def shape_for(length: int, *, is_routed: bool) -> StrataConfig:
    """Returns MiniLM's shape for texts of `length` tokens."""
    if length <= LEARNED_POSITIONS:
        return MINILM_L6
    config = replace(MINILM_L6, positions="rope", max_pos=length)
    return config.with_span(ROUTED) if is_routed else config


def _batch(num_texts: int, length: int) -> RaggedBatch:
    generator = torch.Generator().manual_seed(num_texts)
    return RaggedBatch.of(torch.randint(0, MINILM_L6.vocab, (num_texts, length), generator=generator).tolist())


def _resident(field: str) -> int:
    """Returns the resident memory of this process in KiB: now (`VmRSS`) or at its peak (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
