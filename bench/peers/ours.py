"""Provides our own encoder as a learner first publishes it, and measures the background cost of a swap and the rate.

    python -m bench.peers.ours swap             python -m bench.peers.ours rate TOKENS

The encoder computes no padding, so there is only one setting for a batch.

`swap` packs a model that is ready to answer from all stored weights. It prints, as JSON, the median milliseconds, and
the bytes of the block matrices in INT8 and in INT4. The first time is not counted, because it chooses kernels, once in
a process. The swap itself is one assignment; `swap_stall` measures its stall.

`rate` prints the operations a second on texts of TOKENS tokens: two for each token and weight of the layers. Both run
on one thread.
"""

import json
import statistics
import sys
import time
from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from bench.hardware_limit import operations
from bench.harness.timing import thread_times_s
from bench.peers.rectangles import Prepared, TokenIds
from learner.config import LearnerConfig
from learner.learner import Learner
from model.bert import load_encoder
from model.head import out_weight, proj_weight
from model.qtensor import N8G64, QTensor
from model.quantized import INT8, QuantizedEncoder, QuantizedModel
from model.ragged import RaggedBatch
from model.strata import Strata
from model.strata_family import built_in
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors


class OurEngine:
    def __init__(self, strata: Strata, tokenizer: TextTokenizer, precision: str, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        served = Learner(LearnerConfig(), strata, tokenizer).fast_head.served
        tensors = {name: stored.tensor for name, stored in served.tensors.items()}
        self._encoder = QuantizedEncoder.from_tensors(built_in(served.config), tensors)
        self._precision = precision

    def prepare(self, token_ids: TokenIds) -> Prepared:
        def encode(token_ids: TokenIds) -> npt.NDArray[np.float32]:
            z_BD: npt.NDArray[np.float32] = self._encoder.encode(RaggedBatch.of(token_ids), self._precision).numpy()
            return z_BD

        return Prepared("ragged", encode)


NUM_CLASSES = 150
TIMES = 9
NUM_TEXTS = 64


def swap() -> dict[str, float]:
    """Returns the time in ms to pack a whole version, and the bytes of its matrices."""
    strata, _ = load_encoder("minilm-l6")
    config = strata.config
    generator = torch.Generator().manual_seed(0)
    out_CR = torch.randn(NUM_CLASSES, config.head_features, generator=generator)
    head = (proj_weight(config), out_weight(config, out_CR, torch.zeros(NUM_CLASSES)))
    tensors = encoder_tensors(strata) | {tensor.name: tensor for tensor in head}
    labels = [str(number) for number in range(NUM_CLASSES)]
    times_s: list[float] = []
    live = QuantizedModel.from_tensors(config, tensors, labels=labels)
    for _ in range(TIMES):
        start_s = time.perf_counter()
        candidate = QuantizedModel.from_tensors(config, tensors, labels=labels)
        live, candidate = candidate, live
        times_s.append(time.perf_counter() - start_s)
    return {"ms": 1e3 * statistics.median(times_s), **matrix_bytes(tensors)}


def matrix_bytes(tensors: Mapping[str, QTensor]) -> dict[str, int]:
    """Returns the bytes of the matrices that have both precisions: for INT8 alone, and for INT4 alone."""
    nested = [tensor.parts for tensor in tensors.values() if tensor.scheme == N8G64]
    int4_bytes = sum(parts["hi"].nbytes + parts["m"].nbytes + parts["scale"].nbytes for parts in nested)
    int8_bytes = sum(2 * parts["hi"].numel() + parts["scale"].nbytes for parts in nested)
    return {"int8_bytes": int8_bytes, "int4_bytes": int4_bytes}


def rate(num_tokens: int, *, seconds: float = 3.0) -> float:
    """Returns the operations a second of processor time on texts of `num_tokens` tokens, on one thread."""
    strata, _ = load_encoder("minilm-l6")
    encoder = QuantizedEncoder.from_tensors(strata.config, encoder_tensors(strata))
    token_ids = torch.randint(1_000, strata.config.vocab, (NUM_TEXTS, num_tokens)).tolist()
    times_s = thread_times_s(partial(encoder.encode, RaggedBatch.of(token_ids), INT8), seconds)
    return operations(strata.config, token_ids) / statistics.median(times_s)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measured = swap() if sys.argv[1] == "swap" else {"operations_per_s": rate(int(sys.argv[2]))}
    print(json.dumps(measured))
