"""Finds how a padded encoder runs a batch fastest: whole, or sorted by length in rectangles; on one lane or several.

    token_ids --sorted, cut every `size` texts--> rectangles --lanes--> z_BD in the caller's order

A peer gets its best settings: every variant, size and number of lanes is tried, and the fastest one is timed. A lane is
an instance of the engine with its share of the threads; two lanes of one thread often beat one of two.

Shape suffixes: B texts, T tokens of the longest, D width.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int64]
Run: TypeAlias = Callable[[Ids, Ids], Any]
"""Maps ids_BT and mask_BT to z_BD, a numpy array or a torch tensor."""

Shape: TypeAlias = tuple[int, int]
"""The texts and the tokens of a rectangle."""

TokenIds: TypeAlias = Sequence[Sequence[int]]
Encode: TypeAlias = Callable[[TokenIds], npt.NDArray[np.float32]]
"""Maps token ids to z_BD."""

SIZES = (16, 8, 4)
"""The numbers of texts in a rectangle that are tried, besides the whole batch."""

TRIES = 3
HOPELESS = 1.2
"""What is slower than the best so far by this factor at its first try gets no other."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One setting of an engine. `load(threads, lanes)` returns `lanes` runs that may be called at the same time."""

    name: str
    load: Callable[..., list[Run]]
    max_lanes: int = 8
    """The most lanes. It is 1 where the engine uses the threads of the process, which two calls would share."""
    fixes_shape: bool = False
    """Whether `load` accepts a `shape` that all calls will have, to compile for it."""


@dataclass(frozen=True, slots=True)
class EncodePlan:
    """A variant with its lanes, and how many texts it runs at once (0: all of them)."""

    variant: Variant
    runs: tuple[Run, ...]
    size: int
    shape: Shape | None = None

    def __str__(self) -> str:
        words = [self.variant.name]
        words += [f"in {self.size}s"] if self.size else []
        words += ["shape fixed"] if self.shape else []
        words += [f"{len(self.runs)} lanes"] if len(self.runs) > 1 else []
        return ", ".join(words)

    def encode(self, token_ids: TokenIds, threads: ThreadPoolExecutor) -> npt.NDArray[np.float32]:
        order = sorted(range(len(token_ids)), key=lambda index: len(token_ids[index]))
        size = self.shape[0] if self.shape else (self.size or len(order))
        rectangles = [order[start : start + size] for start in range(0, len(order), size)]
        z_BD: list[Any] = [None] * len(token_ids)

        def drive(lane: int) -> None:
            # lanes take rectangles in turn, so that long and short texts are shared out evenly
            for rows in rectangles[lane :: len(self.runs)]:
                rectangle_BD = self.runs[lane](*pad([token_ids[row] for row in rows]))
                for row, z_D in zip(rows, np.array(rectangle_BD), strict=True):
                    z_BD[row] = z_D

        if len(self.runs) == 1:
            drive(0)
        else:
            list(threads.map(drive, range(len(self.runs))))
        return np.stack(z_BD)


class PaddedEngine:
    """Tries its variants on the batch that it is prepared for."""

    def __init__(self, variants: Sequence[Variant], num_threads: int) -> None:
        self._num_threads = num_threads
        self._lanes: list[tuple[Variant, tuple[Run, ...]]] = []
        for variant in variants:
            for lanes in dict.fromkeys((1, min(num_threads, variant.max_lanes))):
                self._lanes.append((variant, tuple(variant.load(num_threads, lanes))))
        self._threads = ThreadPoolExecutor(num_threads)

    def prepare(self, token_ids: TokenIds) -> tuple[str, Encode]:
        """Returns the fastest plan for batches like this one, in words and as a function."""
        plan = self._fastest(list(self._plans(len(token_ids))), token_ids)
        size = plan.size or len(token_ids)
        if plan.variant.fixes_shape and len(token_ids) % size == 0 and len(set(map(len, token_ids))) == 1:
            plan = self._fastest([plan, self._fixed(plan, (size, len(token_ids[0])))], token_ids)
        return str(plan), functools.partial(plan.encode, threads=self._threads)

    def _plans(self, num_texts: int) -> Iterator[EncodePlan]:
        for variant, runs in self._lanes:
            if len(runs) == 1:
                yield EncodePlan(variant, runs, size=0)
            yield from (EncodePlan(variant, runs, size) for size in SIZES if num_texts >= size * max(2, len(runs)))

    def _fixed(self, plan: EncodePlan, shape: Shape) -> EncodePlan:
        runs = plan.variant.load(self._num_threads, len(plan.runs), shape)
        return EncodePlan(plan.variant, tuple(runs), plan.size, shape)

    def _fastest(self, plans: Sequence[EncodePlan], token_ids: TokenIds) -> EncodePlan:
        best = (float("inf"), plans[0])
        clock = clock_for(self._num_threads)
        for plan in plans:
            seconds = best_s(functools.partial(plan.encode, token_ids, self._threads), clock, rival_s=best[0])
            best = min(best, (seconds, plan), key=lambda entry: entry[0])
        return best[1]


def pad(token_ids: TokenIds) -> tuple[Ids, Ids]:
    """Returns ids_BT and mask_BT, as wide as the longest text.

    >>> [part.tolist() for part in pad([[5], [6, 7]])]
    [[[5, 0], [6, 7]], [[1, 0], [1, 1]]]
    """
    width = max(map(len, token_ids))
    ids_BT = np.array([[*ids, *[0] * (width - len(ids))] for ids in token_ids], dtype=np.int64)
    mask_BT = np.array([[1] * len(ids) + [0] * (width - len(ids)) for ids in token_ids], dtype=np.int64)
    return ids_BT, mask_BT


def clock_for(num_threads: int) -> Callable[[], float]:
    """Returns the clock: processor time for one thread, which other processes do not affect, else wall-clock time."""
    return time.process_time if num_threads == 1 else time.perf_counter


def best_s(call: Callable[[], object], clock: Callable[[], float], *, rival_s: float = float("inf")) -> float:
    """Times a few calls after one that warms up; returns the shortest. Stops early where it is hopeless against
    `rival_s`.
    """
    call()
    best = float("inf")
    for _ in range(TRIES):
        start_s = clock()
        call()
        best = min(best, clock() - start_s)
        if best > HOPELESS * rival_s:
            break
    return best
