"""Measures the hardware limit of the encoder's matrices: the time to multiply or to read them, whichever is longer.

Both limits are measured in turns with the encoders.

**Peak.** The rate of the faster INT8 layer: `torch._int_mm`, which only multiplies, or our own layer. It is measured on
a feed-forward layer with the number of rows at which both are fastest, because the output still fits into the near
caches. It is a limit of software, not of the processor, so the rows name the layer.

**Reading.** The time of a maximum over as many bytes as all matrices have. If the matrices do not fit into the near
caches and the processor multiplies fast, a text of a few tokens is limited by reading them.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from bench.peers.rectangles import Prepared, TokenIds, best_s, clock_for
from kernels.linear_i8 import linear_i8, pack
from model.config import StrataConfig

ROWS = 256
NUM_IN = 384
NUM_OUT = 1536
PARTS = 8
# Python threads start at different moments, which costs a call up to a third of its time. The best of TRIES counts.
TRIES = 30
OPERATIONS = 2 * PARTS * ROWS * NUM_IN * NUM_OUT


def num_weights(config: StrataConfig) -> int:
    """Counts the weights of the blocks' matrices, which are as many bytes in INT8."""
    width = config.d_model
    inner = config.d_ff
    return config.n_layers * (4 * width * width + 2 * width * inner)


def operations(config: StrataConfig, token_ids: TokenIds) -> int:
    """Counts two operations for each token and weight of the blocks. Operations of attention are not counted."""
    return 2 * sum(map(len, token_ids)) * num_weights(config)


Part: TypeAlias = Callable[[], torch.Tensor]


class PeakEngine:
    """Does OPERATIONS INT8 operations a call, independently of the batch that it is prepared for."""

    def __init__(self, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        self._clock = clock_for(num_threads)
        self._num_threads = num_threads
        self._threads = ThreadPoolExecutor(num_threads)
        q_NK = torch.randint(-127, 128, (NUM_OUT, NUM_IN), dtype=torch.int8)
        x_MK = torch.randn(ROWS, NUM_IN)
        q_MK = x_MK.mul(40).round().clamp(-127, 127).to(torch.int8)
        packed = pack(q_NK, torch.ones(NUM_OUT))
        w_KN = q_NK.t()
        # `torch._int_mm` uses all threads of torch; our layer is called from several threads.
        self._layers = {
            "torch._int_mm": lambda: _repeat(lambda: torch._int_mm(q_MK, w_KN), PARTS),
            "our own layer": lambda: self._run_on_threads(lambda: linear_i8(x_MK, packed)),
        }

    def _run_on_threads(self, part: Part) -> torch.Tensor:
        """Runs `part` PARTS times, spread over all threads."""
        threads = self._num_threads
        shares = [len(range(first, PARTS, threads)) for first in range(threads)]
        *_, last = self._threads.map(lambda share: _repeat(part, share), shares)
        return last

    def prepare(self, token_ids: TokenIds) -> Prepared:
        seconds = {min(best_s(layer, self._clock) for _ in range(TRIES)): name for name, layer in self._layers.items()}
        name = seconds[min(seconds)]

        def work(token_ids: TokenIds) -> npt.NDArray[np.float32]:
            y_MN: npt.NDArray[np.float32] = self._layers[name]().numpy()
            return y_MN

        return Prepared(f"{name}, {PARTS} times {ROWS} x {NUM_IN} x {NUM_OUT}", work)


def _repeat(part: Part, times: int) -> torch.Tensor:
    for _ in range(times - 1):
        part()
    return part()


class ReadEngine:
    """Reads as many bytes a call as the blocks of `config` have in INT8, on the threads of torch."""

    def __init__(self, config: StrataConfig, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        self._weights = torch.ones(num_weights(config), dtype=torch.int8)

    def prepare(self, token_ids: TokenIds) -> Prepared:
        def work(token_ids: TokenIds) -> npt.NDArray[np.float32]:
            greatest: npt.NDArray[np.float32] = self._weights.amax().float().numpy()
            return greatest

        return Prepared("torch.amax", work)
