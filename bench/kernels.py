"""Times the kernels by themselves: every implementation of the INT8 layer, and where attention changes its way.

    python -m bench.kernels [THREADS]

Prints microseconds of processor time, the shortest of many calls; float32 is `torch.nn.functional.linear` on the same
shape.
"""

import sys
import time
from collections.abc import Callable

import torch

from kernels.attention import library as attention
from kernels.linear_i8 import IMPLS
from kernels.linear_i8.reference import Int8Weight
from kernels.memory import keep_freed_memory

SHAPES = ((1152, 384), (384, 384), (1536, 384), (384, 1536))
"""N and K of a MiniLM block: query-key-value, output, up, down."""

ROWS = (1, 16, 128, 700)
LENGTHS = (4, 9, 16, 24, 31, 32, 40, 47, 48, 64, 128)
TOKENS = 512
BUDGET_S = 0.2


def main(threads: int) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    with torch.no_grad():
        _linear()
        _attention()


def _linear() -> None:
    impls = [impl for impl in IMPLS if not impl.why_not()]
    print("linear_i8     M ", *(f"{impl.name.split('/')[-1]:>10}" for impl in impls), "   float32")
    for num_out, num_in in SHAPES:
        w_NK = torch.randn(num_out, num_in)
        bias_N = torch.randn(num_out)
        weight = Int8Weight.of(torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8), bias_N.abs(), bias_N)
        runs = [impl.run(weight) for impl in impls]
        for num_rows in ROWS:
            x_MK = torch.randn(num_rows, num_in)
            times = [_best_us(lambda run=run, x_MK=x_MK: run(x_MK)) for run in runs]  # type: ignore[misc]
            times.append(_best_us(lambda x=x_MK, w=w_NK, b=bias_N: torch.nn.functional.linear(x, w, b)))  # type: ignore[misc]
            print(f"{num_out:>4} x {num_in:<4} {num_rows:>4}", *(f"{us:>10.0f}" for us in times))


def _attention() -> None:
    print("attention, length x count: spelled-out softmax, fused (12 heads of 32)")
    for length in LENGTHS:
        qkv_TW = torch.randn(TOKENS // length * length, 1152)
        short, long = (
            _best_us(lambda way=way, x=qkv_TW, n=length: way(x, n, 12))  # type: ignore[misc]
            for way in (attention._short, attention._long)
        )
        print(f"{length:>4} x {TOKENS // length:<4} {short:>8.0f} {long:>8.0f}")


def _best_us(run: Callable[[], object]) -> float:
    run()
    best_s = float("inf")
    end_s = time.monotonic() + BUDGET_S
    while time.monotonic() < end_s:
        start_s = time.process_time()
        for _ in range(4):
            run()
        best_s = min(best_s, (time.process_time() - start_s) / 4)
    return best_s * 1e6


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
