"""Lists the encoders by name. Each is built in a process of its own, and its library is imported no sooner."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from bench.hardware_limit import PeakEngine, ReadEngine
from bench.peers import onnx_peers, openvino_peers, torch_peers
from bench.peers.cache import folder
from bench.peers.choices import Choices
from bench.peers.ours import OurEngine
from bench.peers.rectangles import PaddedEngine, Prepared, TokenIds, Variant
from model.strata import Strata
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
"""The makers of the peers. ORT is ONNX Runtime; those of OpenVINO are INT8 but for the first. Each raises ImportError
where its library is missing, and Skip where the processor would only emulate its precision. The precisions of a library
are peers of their own, since a goal of equal accuracy needs the accurate ones even where others are faster."""


class PeerEngine(Protocol):
    def prepare(self, token_ids: TokenIds) -> Prepared:
        """Prepares for batches like this one."""


def build_engine(name: str, strata: Strata, tokenizer: TextTokenizer, num_threads: int) -> PeerEngine:
    """Makes the encoder of that name. Raises Skip or ImportError."""
    if name == PEAK:
        return PeakEngine(num_threads)
    if name == READ:
        return ReadEngine(strata.config, num_threads)
    if name in (OURS, OURS_INT4):
        return OurEngine(strata, tokenizer, "int4" if name == OURS_INT4 else "int8", num_threads)
    choices = Choices(folder("choices") / f"{name}-{num_threads}.json")
    return PaddedEngine(PEERS[name](strata), num_threads, choices)
