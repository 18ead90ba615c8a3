"""Lists the encoders by name, and serves one of them, alone in a process, over stdin and stdout.

    python -m bench.peers.engines NAME THREADS

Only that process imports the encoder's library. Each line of stdin is a JSON object: {"work": "8x16"} prepares a
workload, {"work": "8x16", "seconds": 0.2} runs it. Each line of stdout is a JSON object, too. The first is
{"ready": true}, {"missing": reason} or {"left_out": reason}. Each further line answers a question: the settings and the
cosines to full precision of a prepared workload, or its times. Output of libraries goes to stderr.
"""

import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from bench.hardware_limit import OPERATIONS, PeakEngine, ReadEngine, operations
from bench.peers import onnx_peers, openvino_peers, torch_peers
from bench.peers.exported import folder
from bench.peers.ours import OurEngine
from bench.peers.rectangles import Choices, Encode, PaddedEngine, Prepared, TokenIds, Variant
from bench.peers.workloads import BY_NAME
from evals.results.row import Skip
from kernels.allocator import keep_freed_memory
from model.bert import load_encoder
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer

OURS = "ours INT8"
OURS_INT4 = "ours INT4"
PEAK = "INT8 layer"
READ = "reading"

PEERS: Mapping[str, Callable[[Strata], Sequence[Variant]]] = {
    "torch fp32": torch_peers.fp32,
    "torch bf16": torch_peers.bf16,
    "torch compiled": torch_peers.compiled,
    "torch compiled bf16": torch_peers.compiled_bf16,
    "torch INT8": torch_peers.int8,
    "torchao INT8": torch_peers.torchao,
    "ORT INT8": onnx_peers.plain,
    "ORT INT8 fused": onnx_peers.fused,
    "ORT INT8 static": onnx_peers.static,
    "OpenVINO bf16": openvino_peers.in_bf16(openvino_peers.unquantized),
    "OpenVINO static": openvino_peers.static,
    "OpenVINO static bf16": openvino_peers.in_bf16(openvino_peers.static),
    "OpenVINO mixed": openvino_peers.mixed,
    "OpenVINO mixed bf16": openvino_peers.in_bf16(openvino_peers.mixed),
    "OpenVINO dynamic g128": openvino_peers.dynamic_128,
    "OpenVINO dynamic g128 bf16": openvino_peers.in_bf16(openvino_peers.dynamic_128),
    "OpenVINO dynamic g64": openvino_peers.dynamic_64,
    "OpenVINO dynamic g64 bf16": openvino_peers.in_bf16(openvino_peers.dynamic_64),
}
"""Name -> the function that makes the peer. ORT is ONNX Runtime. All peers of OpenVINO except the first are INT8. A
function raises ImportError if its library is missing, and Skip if the processor would only emulate its precision. Each
precision of a library is a peer of its own, because the goal at equal accuracy needs accurate peers even if others are
faster."""


class PeerEngine(Protocol):
    def prepare(self, token_ids: TokenIds) -> Prepared:
        """Prepares the encoder for batches with the lengths of this one."""


def build_engine(name: str, strata: Strata, tokenizer: TextTokenizer, num_threads: int) -> PeerEngine:
    """Makes the encoder of that name. Raises ImportError if its library is missing, and Skip like PEERS."""
    if name == PEAK:
        return PeakEngine(num_threads)
    if name == READ:
        return ReadEngine(strata.config, num_threads)
    if name in (OURS, OURS_INT4):
        return OurEngine(strata, tokenizer, "int4" if name == OURS_INT4 else "int8", num_threads)
    choices = Choices(folder("choices") / f"{name}-{num_threads}.json")
    return PaddedEngine(PEERS[name](strata), num_threads, choices)


ENCODER = "minilm-l6"
REFERENCE_BATCH = 16
MIN_CALLS = 2
EXACT = {"cosine": 1.0, "worst": 1.0}
INSTALL = "pip install 'lifelong[bench]'"


def main(name: str, num_threads: int) -> None:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    torch.set_num_threads(num_threads)
    # Every encoder keeps freed memory: returning it to the kernel would cost each of them the same.
    keep_freed_memory()
    strata, tokenizer = load_encoder(ENCODER)
    try:
        engine = build_engine(name, strata, tokenizer, num_threads)
    except ImportError as error:
        print(json.dumps({"missing": f"{error}; {INSTALL}"}), file=out)
        return
    except Skip as reason:
        print(json.dumps({"left_out": str(reason)}), file=out)
        return
    print(json.dumps({"ready": True}), file=out)
    prepared: dict[str, Encode] = {}
    for line in sys.stdin:
        question = json.loads(line)
        workload = BY_NAME[question["work"]]
        token_ids = workload.batch(tokenizer)
        if "seconds" in question:
            answer = times(functools.partial(prepared[workload.name], token_ids), question["seconds"])
        else:
            how, prepared[workload.name], is_whole = engine.prepare(token_ids)
            num_operations = OPERATIONS if name == PEAK else operations(strata.config, token_ids)
            answer = {"how": how, "is_whole": is_whole, "operations": num_operations}
            exact = name in (PEAK, READ)
            answer |= EXACT if exact else cosines(prepared[workload.name], strata, workload.sample(tokenizer))
        print(json.dumps(answer), file=out)


@torch.no_grad()
def cosines(encode: Encode, strata: Strata, token_ids: list[list[int]]) -> dict[str, float]:
    """Returns the mean and the lowest cosine to the vectors of full precision."""
    reference_BD = encode_many(strata, token_ids, batch_size=REFERENCE_BATCH).numpy()
    z_BD = encode(token_ids)
    cosine_B = (z_BD * reference_BD).sum(1) / np.linalg.norm(z_BD, axis=1)
    return {"cosine": float(cosine_B.mean()), "worst": float(cosine_B.min())}


def times(call: Callable[[], object], seconds: float) -> dict[str, Any]:
    """Returns the times of repeated calls in milliseconds: median, best, and median processor time.

    If there are several short calls, the first one is a warm-up.
    """
    wall_s: list[float] = []
    busy_s: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(wall_s) < MIN_CALLS or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        busy_start_s = time.process_time()
        call()
        wall_s.append(time.perf_counter() - start_s)
        busy_s.append(time.process_time() - busy_start_s)
    if len(wall_s) > 2 * MIN_CALLS:
        del wall_s[0], busy_s[0]
    return {
        "ms": 1e3 * statistics.median(wall_s),
        "best_ms": 1e3 * min(wall_s),
        "busy_ms": 1e3 * statistics.median(busy_s),
    }


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1], int(sys.argv[2]))
