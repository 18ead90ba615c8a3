"""Finds the fastest way to run a batch on a padded encoder: as a whole, or in rectangles of texts of similar length, on
one lane or several.

    token_ids --sorted, cut every `size` texts--> rectangles --lanes--> z_BD in the caller's order
    machine, libraries, shape of the batch --> seconds by settings, in build/bench/peers/choices/<peer>-<threads>.json

A peer gets its best settings: every variant, size and number of lanes is tried, and the race times the fastest ones. A
search ends after SEARCH_S, and the row says so. The tried settings are stored (`Choices`), and the search of the next
call tries only the other settings, including the settings of new variants. Stored settings are timed again in every
race; only the search is saved.

A lane is an instance of the engine with its part of the threads. Two lanes of one thread are often faster than one lane
of two threads.

Shape suffixes: B texts, T tokens of the longest, D width.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from bench.harness.machine import PEERS, machine, versions
from wire.files import atomic_write


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """The settings of a peer for a batch: the variant's name, the number of lanes, and the texts in a rectangle.

    A `size` of 0 means all texts in one rectangle.
    """

    variant: str
    lanes: int = 1
    size: int = 0
    is_shape_fixed: bool = False

    def __str__(self) -> str:
        words = [self.variant]
        words += [f"in {self.size}s"] if self.size else []
        words += ["shape fixed"] if self.is_shape_fixed else []
        words += [f"{self.lanes} lanes"] if self.lanes > 1 else []
        return ", ".join(words)


class Choices:
    """Stores the tried settings of one peer in a file that no other process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        installed = versions(PEERS)
        libraries = " ".join(f"{name} {installed[name]}" for name in ("torch", *PEERS))
        self._where = f"{machine()}; {libraries}"

    def tried(self, token_ids: Sequence[Sequence[int]]) -> dict[str, float]:
        """Returns settings (as text) -> seconds, for batches with these lengths, this machine and these libraries."""
        return self._read_file().get(self._key(token_ids), {})

    def store(self, token_ids: Sequence[Sequence[int]], tried: Mapping[str, float]) -> None:
        """Stores the settings that `tried` returns from now on."""
        entries = self._read_file() | {self._key(token_ids): dict(tried)}
        with atomic_write(self._path) as file:
            file.write(msgspec.json.format(msgspec.json.encode(entries)))

    def _key(self, token_ids: Sequence[Sequence[int]]) -> str:
        lengths = sorted(map(len, token_ids))
        return f"{len(lengths)} texts, {sum(lengths)} tokens, {lengths[0]} to {lengths[-1]}; {self._where}"

    def _read_file(self) -> dict[str, dict[str, float]]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, dict[str, float]])
        except (OSError, msgspec.DecodeError):
            # There is no file yet, or a release with another format has written it.
            return {}


Ids: TypeAlias = npt.NDArray[np.int64]
Run: TypeAlias = Callable[[Ids, Ids], Any]
"""Maps ids_BT and mask_BT to z_BD, a numpy array or a torch tensor."""

Shape: TypeAlias = tuple[int, int]
"""The texts and the tokens of a rectangle."""

TokenIds: TypeAlias = Sequence[Sequence[int]]
Encode: TypeAlias = Callable[[TokenIds], npt.NDArray[np.float32]]
"""Maps token ids to z_BD."""


class Prepared(NamedTuple):
    """An encoder that is ready for batches of one shape."""

    how: str
    """The settings, as text."""
    encode: Encode
    is_whole: bool = True
    """Whether all settings were tried."""


SIZES = (16, 8, 4)
"""The numbers of texts in a rectangle that are tried, in addition to the whole batch."""

TRIES = 3
SEARCH_S = 10.0
"""The time limit of a search. No settings are tried after it, but settings whose measurement has begun are finished."""

GIVE_UP_FACTOR = 1.2
"""Settings that are slower than the best by this factor get no further try."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of an engine. `load(threads, lanes)` returns `lanes` functions that may be called at the same time."""

    name: str
    load: Callable[..., list[Run]]
    max_lanes: int = 8
    """The largest number of lanes: 1 if the engine uses the thread pool of the process, which calls would share."""
    fixes_shape: bool = False
    """Whether `load` accepts a third argument `shape`, and compiles for calls with this shape only."""


@dataclass(frozen=True, slots=True)
class EncodePlan:
    """The lanes of a variant, and the number of texts in a rectangle (0: all texts)."""

    runs: tuple[Run, ...]
    size: int

    def encode(self, token_ids: TokenIds, threads: ThreadPoolExecutor) -> npt.NDArray[np.float32]:
        order = sorted(range(len(token_ids)), key=lambda index: len(token_ids[index]))
        size = self.size or len(order)
        rectangles = [order[start : start + size] for start in range(0, len(order), size)]
        z_BD: list[Any] = [None] * len(token_ids)

        def drive(lane: int) -> None:
            # Lanes take rectangles in turn, so that long and short texts are distributed evenly.
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
    """Runs a batch with the fastest settings for its shape, among the settings tried in this call and earlier ones."""

    def __init__(self, variants: Sequence[Variant], num_threads: int, choices: Choices) -> None:
        self._variants = {variant.name: variant for variant in variants}
        self._num_threads = num_threads
        self._choices = choices
        self._loaded: dict[tuple[str, int, Shape | None], tuple[Run, ...]] = {}
        self._threads = ThreadPoolExecutor(num_threads)

    def prepare(self, token_ids: TokenIds) -> Prepared:
        """Finds the fastest settings for batches with these lengths; returns the encoder with these settings."""
        tried = self._choices.tried(token_ids)
        settings, is_whole = self._search(token_ids, tried)
        self._choices.store(token_ids, tried)
        encode = functools.partial(self._plan(settings, token_ids).encode, threads=self._threads)
        # The first call is a warm-up, which is not timed.
        encode(token_ids)
        how = f"{settings}" if is_whole else f"{settings}, search ended after {SEARCH_S:g} s"
        return Prepared(how, encode, is_whole)

    def _search(self, token_ids: TokenIds, tried: dict[str, float]) -> tuple[EncodeSettings, bool]:
        """Returns the fastest settings, and whether all were tried. Adds the times of new settings to `tried`."""
        deadline_s = time.monotonic() + SEARCH_S
        best, is_whole = self._fastest(list(self._candidates(len(token_ids))), token_ids, tried, deadline_s)
        # A fixed shape is possible only if all rectangles have the same number of texts, all of one length.
        is_even = len(token_ids) % (best.size or 1) == 0 and len(set(map(len, token_ids))) == 1
        if is_whole and is_even and self._variants[best.variant].fixes_shape:
            return self._fastest([best, replace(best, is_shape_fixed=True)], token_ids, tried, deadline_s)
        return best, is_whole

    def _candidates(self, num_texts: int) -> Iterator[EncodeSettings]:
        """Yields the settings to try. Rectangles come first: they are mostly faster, and a search may end early."""
        for name, variant in self._variants.items():
            for lanes in dict.fromkeys((1, min(self._num_threads, variant.max_lanes))):
                for size in SIZES:
                    if num_texts >= size * max(2, lanes):
                        yield EncodeSettings(name, lanes, size)
                if lanes == 1:
                    yield EncodeSettings(name)

    def _fastest(
        self, candidates: Sequence[EncodeSettings], token_ids: TokenIds, tried: dict[str, float], deadline_s: float
    ) -> tuple[EncodeSettings, bool]:
        """Returns the fastest candidate, and whether all were tried, now or in an earlier call."""
        seconds = {settings: tried[f"{settings}"] for settings in candidates if f"{settings}" in tried}
        clock = clock_for(self._num_threads)
        for settings in candidates:
            if settings in seconds:
                continue
            if seconds and time.monotonic() > deadline_s:
                break
            call = functools.partial(self._plan(settings, token_ids).encode, token_ids, self._threads)
            seconds[settings] = best_s(call, clock, rival_s=min(seconds.values(), default=float("inf")))
            tried[f"{settings}"] = seconds[settings]
        return min(seconds, key=seconds.__getitem__), len(seconds) == len(candidates)

    def _plan(self, settings: EncodeSettings, token_ids: TokenIds) -> EncodePlan:
        size = settings.size
        shape = None
        if settings.is_shape_fixed:
            size = size or len(token_ids)
            shape = (size, len(token_ids[0]))
        key = (settings.variant, settings.lanes, shape)
        if key not in self._loaded:
            load = self._variants[settings.variant].load
            arguments = () if shape is None else (shape,)
            self._loaded[key] = tuple(load(self._num_threads, settings.lanes, *arguments))
        return EncodePlan(self._loaded[key], size)


def pad(token_ids: TokenIds) -> tuple[Ids, Ids]:
    """Returns ids_BT and mask_BT, padded to the longest text.

    >>> [part.tolist() for part in pad([[5], [6, 7]])]
    [[[5, 0], [6, 7]], [[1, 0], [1, 1]]]
    """
    width = max(map(len, token_ids))
    ids_BT = np.array([[*ids, *[0] * (width - len(ids))] for ids in token_ids], dtype=np.int64)
    mask_BT = np.array([[1] * len(ids) + [0] * (width - len(ids)) for ids in token_ids], dtype=np.int64)
    return ids_BT, mask_BT


def clock_for(num_threads: int) -> Callable[[], float]:
    """Returns processor time for one thread, because other processes do not affect it, else wall-clock time."""
    return time.process_time if num_threads == 1 else time.perf_counter


def best_s(call: Callable[[], object], clock: Callable[[], float], *, rival_s: float = float("inf")) -> float:
    """Times TRIES calls after a warm-up call; returns the shortest time.

    Stops early if the calls are slower than `rival_s` by GIVE_UP_FACTOR.
    """
    call()
    best = float("inf")
    for _ in range(TRIES):
        start_s = clock()
        call()
        best = min(best, clock() - start_s)
        if best > GIVE_UP_FACTOR * rival_s:
            break
    return best
