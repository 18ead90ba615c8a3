"""A worker process: encodes batches as a replica does, on command, and reports its throughput.

    python -m services.tune.worker ENCODER    ready | {"threads", "texts", "seconds"} -> ready, go -> texts a second

Each message is one line on standard input or output. The worker ends when its input ends, and so with the process that
started it.
"""

import sys
import time

import msgspec
import torch

from model.encoders import find_family, open_encoder, packed
from model.packed import PackedEncoder
from model.ragged import RaggedBatch
from services.tune.measure import Task

TEXT_TOKENS = 16
WARM_UP_CALLS = 3


def main(encoder: str) -> None:
    whole, inputs = open_encoder(encoder)
    served = packed(whole.config, find_family(whole.config).quantize_trained(whole, first_layer=None, grams={}), inputs)
    del whole
    _say("ready")
    for line in sys.stdin:
        _work(served, msgspec.json.decode(line, type=Task))


def _work(encoder: PackedEncoder, task: Task) -> None:
    torch.set_num_threads(task.threads)
    tokens = [index * 7_919 % encoder.config.vocab for index in range(task.texts * TEXT_TOKENS)]
    ids = [tokens[start : start + TEXT_TOKENS] for start in range(0, len(tokens), TEXT_TOKENS)]
    for _ in range(WARM_UP_CALLS):
        encoder.encode(RaggedBatch.of(ids))
    _say("ready")
    if not sys.stdin.readline():
        return
    start_s = time.perf_counter()
    calls = 0
    while (elapsed_s := time.perf_counter() - start_s) < task.seconds:
        encoder.encode(RaggedBatch.of(ids))
        calls += 1
    _say(str(calls * task.texts / elapsed_s))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
