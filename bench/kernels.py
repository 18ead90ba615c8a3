"""Times each kernel alone, on the shapes of a MiniLM block, and compares it with torch's operations and the limit.

    python -m bench.kernels THREADS

Prints, as JSON, microseconds of processor time: the shortest of many calls. The peers on the same shape are:

    float32, bf16     torch's linear layer; its fused attention
    softmax           attention in float32 with the softmax written out, which is faster for short texts
    torch/int4        torch's linear layer with INT4 weights in groups of 64, and rows in floating point

The limit is the time of the multiplications at the peak rate, or of reading the operands once, whichever is longer. The
peak is the rate of the faster INT8 layer (bench/hardware_limit.py); for attention in float32 it is the rate of a large
matrix product of torch. So it is a limit of software. bf16 is timed only if the processor multiplies it in hardware.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from bench.hardware_limit import OPERATIONS, PeakEngine
from bench.harness.case import Run
from bench.harness.machine import has_bfloat16
from bench.harness.process import run_module
from bench.harness.timing import fastest_call_s
from evals.results.row import Peer, Row
from kernels import linear_i4, linear_i8, native
from kernels.allocator import keep_freed_memory
from kernels.attention import group_equal
from kernels.attention import library as attention
from kernels.attention_i8.native import attention as attention_i8
from kernels.linear_i4.reference import GROUP, MAX_MULTIPLIER, Int4Weight, unpack_nibbles
from kernels.linear_i8.reference import Int8Weight


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSize:
    """The size of the benchmark."""

    threads: int = 1


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(KernelSize())
    yield from make_rows(run_module("bench.kernels", str(size.threads)))


def make_rows(measured: Mapping[str, Any]) -> Iterator[Row]:
    """Yields the peak, and a row for each kernel and shape. A ratio below 1 means that our kernel is faster."""
    peak = measured["peak"]
    yield Row.of("kernels.peak", round(peak["giga_per_s"]), "INT8 GOP/s", note=peak["how"])
    for each in measured["kernels"]:
        (ours, our_us), *others = each["us"].items()
        peers = tuple(Peer(name, round(us, 1)) for name, us in sorted(others, key=lambda other: other[1]))
        note = f"{ours}; the limit: {each['limit_us']:.1f} us"
        yield Row.of(f"kernels.{each['name']}", round(our_us, 1), "us", peers=peers, note=note)


SHAPES = ((1152, 384), (384, 384), (1536, 384), (384, 1536))
"""N and K of a MiniLM block: query-key-value, output, up, down."""

ROWS = (1, 16, 128, 700)
LENGTHS = (4, 9, 16, 24, 31, 32, 40, 47, 48, 64, 128)
TOKENS = 512
NUM_HEADS = 12
WIDTH = 1152
"""The width of a row of q, k and v: three times 12 heads of 32."""

PEAK_ROWS = 1024
"""The rows and columns of the matrix product whose rate is the peak of float32."""

BUDGET_S = 0.2

Layer: TypeAlias = Callable[[Tensor], object]


@dataclass(frozen=True, slots=True)
class Limit:
    """The peak rate of the fastest layer or product, in operations a microsecond."""

    operations_per_us: float

    def us(self, operations: int, num_bytes: int) -> float:
        """Returns the least time, in microseconds, of `operations` operations on operands of `num_bytes` bytes."""
        operands = torch.ones(num_bytes, dtype=torch.int8)
        return max(operations / self.operations_per_us, _best_us(operands.amax))


@dataclass(frozen=True, slots=True)
class KernelTimes:
    """The times in microseconds of the implementations of a kernel for one shape, ours first, and the limit."""

    name: str
    us: dict[str, float]
    limit_us: float


def main(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    keep_freed_memory()
    with torch.no_grad():
        how, encode, _ = PeakEngine(num_threads).prepare(())
        limit = Limit(OPERATIONS / _best_us(partial(encode, ())))
        times = [
            *_layer_times("linear_i8", _int8_layers, limit, bytes_per_weight=1.0),
            *_layer_times("linear_i4", _int4_layers, limit, bytes_per_weight=0.5 + 1 / GROUP),
            *_attention_times(limit),
            *_float_attention_times(_float_limit()),
        ]
    peak = {"giga_per_s": limit.operations_per_us / 1e3, "how": how}
    print(json.dumps({"peak": peak, "kernels": [asdict(each) for each in times]}))


def _layer_times(
    kernel: str, make: Callable[[int, int], Mapping[str, Layer]], limit: Limit, *, bytes_per_weight: float
) -> Iterator[KernelTimes]:
    for num_out, num_in in SHAPES:
        layers = make(num_out, num_in)
        for num_rows in ROWS:
            x_MK = torch.randn(num_rows, num_in)
            us = {name: _best_us(partial(layer, x_MK)) for name, layer in layers.items()}
            limit_us = limit.us(2 * num_rows * num_out * num_in, round(num_out * num_in * bytes_per_weight))
            yield KernelTimes(f"{kernel}.{num_out}x{num_in}.{num_rows}", us, limit_us)


def _int8_layers(num_out: int, num_in: int) -> Mapping[str, Layer]:
    q_NK = torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8)
    weight = Int8Weight.of(q_NK, torch.rand(num_out), torch.randn(num_out))
    ours = {_short_name(impl.name): impl.run(weight) for impl in linear_i8.IMPLS if not impl.why_unavailable()}
    return {**ours, **_float_layers(q_NK, weight.bias_N)}


def _int4_layers(num_out: int, num_in: int) -> Mapping[str, Layer]:
    hi_NJ = torch.randint(256, (num_out, num_in // 2), dtype=torch.uint8)
    m_NG = torch.randint(1, MAX_MULTIPLIER + 1, (num_out, num_in // GROUP), dtype=torch.uint8)
    weight = Int4Weight(hi_NJ, m_NG, torch.rand(num_out), torch.randn(num_out))
    ours = {_short_name(impl.name): impl.run(weight) for impl in linear_i4.IMPLS if not impl.why_unavailable(weight)}
    as_int8 = weight.as_int8()
    return {**ours, "torch/int4": _torch_int4(weight), **_float_layers(as_int8.q_NK, as_int8.bias_N)}


def _torch_int4(weight: Int4Weight) -> Layer:
    """Returns torch's own layer on the same nibbles, without bias. Scales and zero points are in bf16 or float32."""
    dtype = torch.bfloat16 if has_bfloat16() else torch.float32
    nibbles_NK = unpack_nibbles(weight.hi_NJ).int() + 8
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(nibbles_NK, 1)
    scale_GN = (weight.m_NG * weight.scale_N[:, None]).T
    scale_and_zero_GN2 = torch.stack((scale_GN, torch.zeros_like(scale_GN)), dim=2).to(dtype).contiguous()
    product = torch.ops.aten._weight_int4pack_mm_for_cpu
    return lambda x_MK: product(x_MK.to(dtype), packed, GROUP, scale_and_zero_GN2)


def _float_layers(q_NK: Tensor, bias_N: Tensor) -> Mapping[str, Layer]:
    dtypes = {"float32": torch.float32} | ({"bf16": torch.bfloat16} if has_bfloat16() else {})
    return {name: _float_layer(q_NK.to(dtype), bias_N.to(dtype)) for name, dtype in dtypes.items()}


def _float_layer(w_NK: Tensor, bias_N: Tensor) -> Layer:
    return lambda x_MK: functional.linear(x_MK.to(w_NK.dtype), w_NK, bias_N)


def _attention_times(limit: Limit) -> Iterator[KernelTimes]:
    isas = [isa for isa in native.ISAS if not native.why_unavailable(isa)]
    for length in LENGTHS:
        qkv_TW = _random_qkv(length)
        groups = group_equal(range(0, len(qkv_TW) + 1, length))
        ours = {isa: partial(attention_i8, qkv_TW, groups, num_heads=NUM_HEADS, isa=isa) for isa in isas}
        us = {isa: _best_us(run) for isa, run in ours.items()}
        us |= _torch_attention_us(qkv_TW, length)
        yield KernelTimes(f"attention_i8.{TOKENS // length}x{length}", us, _attention_limit_us(limit, qkv_TW, length))


def _float_attention_times(limit: Limit) -> Iterator[KernelTimes]:
    for length in LENGTHS:
        qkv_TW = _random_qkv(length)
        args = (qkv_TW, group_equal(range(0, len(qkv_TW) + 1, length)), NUM_HEADS)
        us = {"library": _best_us(partial(attention.attention, *args))}
        us |= _torch_attention_us(qkv_TW, length)
        yield KernelTimes(f"attention.{TOKENS // length}x{length}", us, _attention_limit_us(limit, qkv_TW, length))


def _torch_attention_us(qkv_TW: Tensor, length: int) -> dict[str, float]:
    """Times both attentions of torch. Our float implementation uses one or the other, depending on the length."""
    us = {
        "softmax": _best_us(partial(attention._short, qkv_TW, length, NUM_HEADS, False)),
        "float32": _best_us(partial(attention._long, qkv_TW, length, NUM_HEADS, False)),
    }
    if has_bfloat16():
        us["bf16"] = _best_us(partial(attention._long, qkv_TW.bfloat16(), length, NUM_HEADS, False))
    return us


def _random_qkv(length: int) -> Tensor:
    """Makes random qkv_TW of sequences of one length, with at most TOKENS tokens together."""
    return torch.randn(TOKENS // length * length, WIDTH)


def _attention_limit_us(limit: Limit, qkv_TW: Tensor, length: int) -> float:
    """Returns the limit of attention: two products over all pairs of tokens of a sequence; q, k and v in float32."""
    return limit.us(4 * len(qkv_TW) * length * WIDTH // 3, 4 * qkv_TW.numel())


def _float_limit() -> Limit:
    a_MK = torch.randn(PEAK_ROWS, PEAK_ROWS)
    return Limit(2 * PEAK_ROWS**3 / _best_us(partial(torch.mm, a_MK, a_MK)))


def _short_name(name: str) -> str:
    return name.split("/")[-1]


def _best_us(run: Callable[[], object]) -> float:
    return 1e6 * fastest_call_s(run, BUDGET_S, calls=4)


if __name__ == "__main__":
    main(int(sys.argv[1]))
