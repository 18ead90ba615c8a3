"""How long a batch takes in each precision, by the number of its tokens: measured on the weights that will answer.

    encode(batch, precision) --every size, every precision in turn--> LatencyTable --ms_of--> the choice of a precision

It runs in the thread that loads weights, within a budget of time: sizes that do not fit any more are left out, and what
lies beyond the largest is taken in proportion. The precisions take turns, so that a slow moment of the machine hits all
of them, and the best of their times counts.

Rejected: a table that comes with the weights (the next processor has other times), and learning it from the batches
that are answered (what was never chosen would never be known).
"""

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
    """`ms[precision][i]` is the time of a batch of `num_tokens[i]` tokens; these ascend."""

    num_tokens: tuple[int, ...]
    ms: Mapping[str, tuple[float, ...]]

    def knows(self, precisions: Sequence[str]) -> bool:
        return all(precision in self.ms for precision in precisions)

    def ms_of(self, precision: str, num_tokens: int) -> float:
        """Of a batch of any size: on the line between two measured ones, and in proportion beyond the largest.

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
    """The table of these precisions. The smallest size is always measured; another, if a round of it fits the budget.

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
        found = [[_seconds(encode, batch, precision, clock) for precision in precisions] for _ in range(rounds)]
        sizes.append(num_texts * TEXT_TOKENS)
        for precision, times_s in zip(precisions, zip(*found, strict=True), strict=True):
            ms[precision].append(1e3 * min(times_s))
    return LatencyTable(tuple(sizes), {precision: tuple(times) for precision, times in ms.items()})


def _seconds(encode: EncodeIn, batch: RaggedBatch, precision: str, clock: Callable[[], float]) -> float:
    start_s = clock()
    encode(batch, precision)
    return clock() - start_s


def _batch(num_texts: int, vocab: int) -> RaggedBatch:
    """Texts whose words lie all over the vocabulary, as those of real texts do."""
    tokens = [place * 7_919 % vocab for place in range(num_texts * TEXT_TOKENS)]
    return RaggedBatch.of([tokens[start : start + TEXT_TOKENS] for start in range(0, len(tokens), TEXT_TOKENS)])
