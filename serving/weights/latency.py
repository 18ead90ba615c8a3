"""The time of a batch in each precision, by its number of tokens, measured on the weights that will answer.

    encode(batch, precision) --every size, every precision in turn--> LatencyTable --ms_of--> the choice of a precision

The measurement runs in the thread that loads weights, within a budget of time: sizes that do not fit any more are left
out, and times beyond the largest size are extrapolated in proportion. The precisions take turns, so that a slow moment
of the machine hits all of them, and the best of their times counts.

Rejected: a table that comes with the weights (another processor has other times), and learning it from the batches that
are answered (a precision that was never chosen would never be measured).
"""

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from model.ragged import RaggedBatch

TEXT_TOKENS: Final = 16
NUM_TEXTS: Final = (1, 4, 16, 64)
ROUNDS: Final = 3
BUDGET_S: Final = 0.3

EncodeIn: TypeAlias = Callable[[RaggedBatch, str], object]


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """`ms[precision][i]` is the time of a batch of `num_tokens[i]` tokens; `num_tokens` ascends."""

    num_tokens: tuple[int, ...]
    ms: Mapping[str, tuple[float, ...]]

    def knows(self, precisions: Sequence[str]) -> bool:
        return all(precision in self.ms for precision in precisions)

    def ms_of(self, precision: str, num_tokens: int) -> float:
        """Returns the time of a batch of any size: interpolated between two sizes, and in proportion beyond the
        largest.

        >>> table = LatencyTable((16, 64), {"int8": (1.0, 3.0)})
        >>> [table.ms_of("int8", num_tokens) for num_tokens in (1, 40, 128)]
        [1.0, 2.0, 6.0]
        """
        sizes = self.num_tokens
        ms = self.ms[precision]
        above = bisect_right(sizes, num_tokens)
        if above == 0:
            return ms[0]
        if above == len(sizes):
            return ms[-1] * num_tokens / sizes[-1]
        share = (num_tokens - sizes[above - 1]) / (sizes[above] - sizes[above - 1])
        return ms[above - 1] + share * (ms[above] - ms[above - 1])


NOT_MEASURED: Final = LatencyTable((), {})


def measure(
    encode: EncodeIn,
    precisions: Sequence[str],
    *,
    vocab: int,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyTable:
    """Measures the table of these precisions. The smallest size is always measured; another, if a round of it fits the
    budget.

    Raises whatever `encode` raises.
    """
    end_s = clock() + budget_s
    sizes: list[int] = []
    ms: dict[str, list[float]] = {precision: [] for precision in precisions}
    rounds = ROUNDS
    for num_texts in NUM_TEXTS:
        if sizes:
            round_s = sum(times[-1] for times in ms.values()) / 1e3 * num_texts * TEXT_TOKENS / sizes[-1]
            rounds = min(ROUNDS, int((end_s - clock()) / round_s))
        if rounds < 1:
            break
        batch = _batch(num_texts, vocab)
        sizes.append(num_texts * TEXT_TOKENS)
        for precision, best_s in _best_times_s(encode, batch, precisions, rounds, clock).items():
            ms[precision].append(1e3 * best_s)
    return LatencyTable(tuple(sizes), {precision: tuple(times) for precision, times in ms.items()})


def _best_times_s(
    encode: EncodeIn, batch: RaggedBatch, precisions: Sequence[str], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Returns the best time of each precision; the precisions take turns."""
    best_s = dict.fromkeys(precisions, math.inf)
    for _ in range(rounds):
        for precision in precisions:
            best_s[precision] = min(best_s[precision], _seconds(encode, batch, precision, clock))
    return best_s


def _seconds(encode: EncodeIn, batch: RaggedBatch, precision: str, clock: Callable[[], float]) -> float:
    start_s = clock()
    encode(batch, precision)
    return clock() - start_s


def _batch(num_texts: int, vocab: int) -> RaggedBatch:
    """Returns a batch of texts whose tokens are spread over the vocabulary, as those of real texts are."""
    tokens = [position * 7_919 % vocab for position in range(num_texts * TEXT_TOKENS)]
    return RaggedBatch.of([tokens[start : start + TEXT_TOKENS] for start in range(0, len(tokens), TEXT_TOKENS)])
