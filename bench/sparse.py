"""Times our sparse INT8 layer on the matrices of MiniLM's feed-forward part, from 50 to 95 % of zeros.

    python -m bench.sparse

Prints, as JSON, microseconds of processor time on one thread: the shortest of many calls. In each round every layer is
timed in turn, so that a disturbance of the machine hits all of them. The peers on the same weights are:

    dense INT8     our own layer, which also multiplies the zeros
    float32        torch's linear layer; `onednn` is the same by oneDNN, on tensors in its own layout
    torch CSR      torch's product of a matrix in CSR, in float32, with the rows as columns

The crossover is the smallest share of zeros from which on a sparse layer is faster than the dense layer of its type.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from bench.harness.case import Run
from bench.harness.process import run_module
from bench.harness.timing import fastest_in_turns_s
from bench.kernels import Layer
from evals.results.row import Peer, Row
from kernels import linear_i8, sparse_i8
from kernels.allocator import keep_freed_memory
from kernels.sparse_i8.reference import GROUP_OUT, QUAD, SparseWeight

SHAPES = ((1536, 384), (384, 1536))
"""N and K: up, down."""

ROWS = (1, 16, 64, 128)
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ROUNDS = 5
SLICE_S = 0.02
"""The time of a layer in a round, in seconds."""

OURS = "sparse INT8"
DENSE = "dense INT8"
FLOAT = "float32"
ONEDNN = "float32, onednn"
CSR = "torch CSR"


@dataclass(frozen=True, slots=True)
class SparseTimes:
    """The times in microseconds of a matrix [num_out, num_in] with `share` of zeros and `num_rows` rows, by layer."""

    num_out: int
    num_in: int
    num_rows: int
    share: float
    us: Mapping[str, float]

    def faster_than(self, *names: str) -> float:
        """Returns how many times as fast our layer is as the fastest of the named layers."""
        return min(self.us[name] for name in names if name in self.us) / self.us[OURS]


@torch.no_grad()
def times(
    *, rows: Sequence[int] = ROWS, shares: Sequence[float] = SHARES, rounds: int = ROUNDS
) -> Iterator[SparseTimes]:
    """Yields the times of every shape, number of rows and share of zeros."""
    nothing = torch.empty(0)
    for num_out, num_in in SHAPES:
        for num_rows in rows:
            for share in shares:
                found = layers(num_out, num_in, num_rows, share)
                works = {name: partial(layer, nothing) for name, layer in found.items()}
                shortest_s = fastest_in_turns_s(works, SLICE_S, rounds=rounds, calls=4)
                us = {name: 1e6 * each_s for name, each_s in shortest_s.items()}
                yield SparseTimes(num_out, num_in, num_rows, share, us)


def layers(num_out: int, num_in: int, num_rows: int, share: float) -> dict[str, Layer]:
    """Returns the layers of one matrix by name. They take no argument that matters: each has its own rows."""
    generator = torch.Generator().manual_seed(num_rows)
    mask_GQ = torch.rand(num_out // GROUP_OUT, num_in // QUAD, generator=generator) >= share
    shape = (int(mask_GQ.sum()), GROUP_OUT, QUAD)
    blocks_BNQ = torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)
    weight = SparseWeight(mask_GQ, blocks_BNQ, torch.rand(num_out), torch.randn(num_out))
    x_MK = torch.randn(num_rows, num_in, generator=generator)
    dense = weight.as_int8()
    ours = sparse_i8.pack(mask_GQ, blocks_BNQ, weight.scale_N, weight.bias_N)
    zeros = linear_i8.pack(dense.q_NK, dense.scale_N, dense.bias_N)
    w_NK = dense.q_NK.float()
    found: dict[str, Layer] = {
        OURS: lambda _: sparse_i8.sparse_i8(x_MK, ours),
        DENSE: lambda _: linear_i8.linear_i8(x_MK, zeros),
        FLOAT: lambda _: functional.linear(x_MK, w_NK, dense.bias_N),
    }
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        found[ONEDNN] = _onednn(x_MK, w_NK, dense.bias_N)
    if torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        w_csr = w_NK.to_sparse_csr()
        x_KM = x_MK.t().contiguous()
        found[CSR] = lambda _: w_csr @ x_KM
    return found


def _onednn(x_MK: Tensor, w_NK: Tensor, bias_N: Tensor) -> Layer:
    x, weight, bias = (each.to_mkldnn() for each in (x_MK, w_NK, bias_N))
    return lambda _: torch.ops.aten.mkldnn_linear(x, weight, bias)


def crossover(measured: Sequence[SparseTimes], sparse: str, dense: str) -> float | None:
    """Returns the smallest share from which on `sparse` is faster than `dense`; None if it never is."""
    slower = [each.share for each in measured if each.us[sparse] >= each.us[dense]]
    faster = [each.share for each in measured if each.share > max(slower, default=-1.0)]
    return min(faster, default=None)


def measure(run: Run) -> Iterator[Row]:
    yield from make_rows([SparseTimes(**each) for each in run_module("bench.sparse")])


def make_rows(measured: Sequence[SparseTimes]) -> Iterator[Row]:
    """Yields a row for each matrix and share, and the crossovers. A ratio below 1 means that our layer is faster."""
    by_matrix: dict[str, list[SparseTimes]] = {}
    for each in measured:
        matrix = f"{each.num_out}x{each.num_in}.{each.num_rows}"
        by_matrix.setdefault(matrix, []).append(each)
        peers = sorted((Peer(name, round(us, 1)) for name, us in each.us.items() if name != OURS), key=_value)
        name = f"sparse.{matrix}.{100 * each.share:.0f}"
        yield Row.of(name, round(each.us[OURS], 1), "us", peers=tuple(peers))
    for matrix, curve in by_matrix.items():
        ours = crossover(curve, OURS, DENSE)
        note = f"{OURS} beside {DENSE}: {_shown(ours)}"
        if all(CSR in each.us for each in curve):
            note += f"; {CSR} beside {FLOAT}: {_shown(crossover(curve, CSR, FLOAT))}"
        yield Row.of(f"sparse.{matrix}.crossover", None if ours is None else 100 * ours, "% of zeros", note=note)


def _shown(share: float | None) -> str:
    return "never faster" if share is None else f"faster from {share:.0%} of zeros on"


def _value(peer: Peer) -> float:
    return peer.value


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    print(json.dumps([asdict(each) for each in times()]))


if __name__ == "__main__":
    main()
