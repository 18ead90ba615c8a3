"""Times one encoder on 64 real texts, in this process alone.

    python -m bench.peers.encoder_once int8|fp32 THREADS

`int8` is ours: ragged, no padded token is computed. `fp32` is what one would do without us: torch, every text filled up
to the longest. Prints texts a second, median of the runs. Tokenising is not timed: it is the same for both.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch

from bench.texts import some_texts
from model.minilm import load_encoder
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch
from model.weights import encoder_tensors

NUM_TEXTS = 64
WARM_UP_S, MEASURE_S = 2.0, 6.0


def main(kind: str, threads: int) -> None:
    torch.set_num_threads(threads)
    strata, tokenizer = load_encoder("minilm-l6")
    ids = tokenizer.encode_many(some_texts(NUM_TEXTS))
    if kind == "int8":
        encoder = QuantizedEncoder.from_tensors(strata.config, encoder_tensors(strata))
        seconds = _median_s(lambda: encoder.encode(RaggedBatch.of(ids)))
    else:
        padded = RaggedBatch.of(_padded(ids))
        with torch.no_grad():
            seconds = _median_s(lambda: strata(padded))
    print(json.dumps({"texts_per_s": NUM_TEXTS / seconds, "ms": 1000 * seconds}))


def _padded(ids: list[list[int]]) -> list[list[int]]:
    longest = max(map(len, ids))
    return [[*each, *[0] * (longest - len(each))] for each in ids]


def _median_s(run: Callable[[], object]) -> float:
    _times(run, WARM_UP_S)
    return statistics.median(_times(run, MEASURE_S))


def _times(run: Callable[[], object], for_s: float) -> list[float]:
    times: list[float] = []
    end_s = time.perf_counter() + for_s
    while not times or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        run()
        times.append(time.perf_counter() - start_s)
    return times


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
