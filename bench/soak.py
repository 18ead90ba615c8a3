"""Runs the service at a steady load for a long time, and tests whether its use of resources grows.

    lifelong up <-- events, labels (bench/chaos/running.py) for `minutes`, or `hours`
    every few seconds: memory, open files, memory of Redis, disk, lag --after the warm-up--> least-squares slope, error

Successive samples are correlated, so the slope is fitted to the means of BATCHES batches. A slope counts as zero if it
is at most two standard errors above zero. The settings bound caches and windows so low that they are full before the
warm-up ends; a resource that grows afterwards grows without bound. The topics are not counted, because their retention
bounds them, nor is the file of Redis, which Redis rewrites when it has doubled.
"""

import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, Final

import psutil
import redis

from bench.chaos.programs import BROKER, REDIS, ProcessTree, descendants
from bench.chaos.running import Running, labelled_items, running
from bench.chaos.size import SceneSize
from bench.chaos.up import Up
from bench.harness.case import Run
from evals.results.row import NoResult, Row
from services.settings import Settings

BATCHES = 20
WARM_UP = 1 / 3
"""The fraction of the time before the slopes begin."""

MIB = 1 << 20

BOUNDS: Final[Mapping[str, Any]] = MappingProxyType(
    {"learner.remembered_ids": 1_000, "learner.replay_samples": 1_000, "serving.dedupe_window": 1_000}
)
"""Settings of caches and windows, so low that these are full before the warm-up is over."""

UNCOUNTED = ("kafka", "redis")
"""The folders of the state folder whose size is not counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SoakSize:
    """The size of the benchmark."""

    minutes: float = 30.0
    hours: float = 0.0
    """The duration in hours, instead of `minutes`. 0 means that `minutes` counts."""
    rate: float = 30.0
    """The load, in events a second."""
    sample_every_s: float = 2.0

    @property
    def seconds(self) -> float:
        return 3_600 * self.hours or 60 * self.minutes


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that must not grow without bound, and the most that the service may use."""

    name: str
    unit: str
    budget: float


RESOURCES = (
    Resource("memory", "MiB", 3_000),
    Resource("files", "open files", 3_000),
    Resource("redis_memory", "MiB", 256),
    Resource("disk", "MiB", 512),
    Resource("lag", "records", 500),
)
"""The sampled resources. `memory` and `files` are of our programs, without the servers; `disk` is the state folder;
`lag` is the learner's."""


@dataclass(frozen=True, slots=True)
class Slope:
    """A slope, and its standard error, in units an hour."""

    value: float
    error: float


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(SoakSize(), quick=SoakSize(minutes=2.5))
    samples = _soak(size, run)
    yield from rows(samples)


def rows(samples: Sequence[tuple[float, Mapping[str, float]]]) -> Iterator[Row]:
    """Yields two rows of each resource. `samples` are pairs of time in seconds and values.

    Raises NoResult if there are too few samples.
    """
    hours = samples[-1][0] / 3_600
    warm = [sample for sample in samples if sample[0] >= WARM_UP * samples[-1][0]]
    for resource in RESOURCES:
        values = [(at_s / 3_600, sample[resource.name]) for at_s, sample in warm]
        slope = fit_slope(values)
        goal = f"<= {round(2 * slope.error, 3)}"
        note = f"of {hours:.2f} hours, without the first third; standard error {slope.error:.3f}"
        name = f"soak.{resource.name}"
        yield Row.of(f"{name}_slope", round(slope.value, 3), f"{resource.unit} an hour", goal=goal, note=note)
        most = max(value for _, value in values)
        yield Row.of(name, round(most, 1), f"{resource.unit} at most", goal=f"<= {resource.budget}")


def fit_slope(values: Sequence[tuple[float, float]]) -> Slope:
    """Fits a slope to pairs of time and value, by least squares over batch means.

    Raises NoResult if there are too few values.

    >>> fit_slope([(float(at), 2.0 * at) for at in range(200)])
    Slope(value=2.0, error=0.0)
    """
    if len(values) < 2 * BATCHES:
        raise NoResult(f"{len(values)} samples after the warm-up are too few for a slope; run the soak longer")
    edges = [len(values) * place // BATCHES for place in range(BATCHES + 1)]
    times: list[float] = []
    means: list[float] = []
    for begin, end in pairwise(edges):
        at, value = zip(*values[begin:end], strict=True)
        times.append(fmean(at))
        means.append(fmean(value))
    middle = fmean(times)
    level = fmean(means)
    spread = sum((at - middle) ** 2 for at in times)
    slope = sum((at - middle) * (mean - level) for at, mean in zip(times, means, strict=True)) / spread
    residual = sum((mean - level - slope * (at - middle)) ** 2 for at, mean in zip(times, means, strict=True))
    return Slope(round(slope, 9), round(math.sqrt(residual / (BATCHES - 2) / spread), 9))


def _soak(size: SoakSize, run: Run) -> list[tuple[float, dict[str, float]]]:
    """Runs the soak; returns pairs of time and sample.

    Raises Skip without Apache Kafka, and NoResult if a program of the service ended.
    """
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    load_size = SceneSize(rate=size.rate, cuts=0, label_delay_s=(1.0, 4.0))
    scene = Up(folder, load_size, run.say, BOUNDS)
    samples: list[tuple[float, dict[str, float]]] = []
    try:
        scene.start()
        with running(scene, labelled_items(), load_size) as load:
            begun_s = time.monotonic()
            while (at_s := time.monotonic() - begun_s) < size.seconds:
                load.wait_until(begun_s + at_s + size.sample_every_s)
                samples.append((time.monotonic() - begun_s, _sample(scene, load)))
            if scene.num_unexpected_ends or len(samples) < 2:
                raise NoResult(f"the service ended unexpectedly {scene.num_unexpected_ends} times")
    finally:
        scene.close()
        shutil.rmtree(folder, ignore_errors=True)
    return samples


def _sample(scene: Up, load: Running) -> dict[str, float]:
    settings = scene.settings()
    tree = ProcessTree(scene.pid)
    servers = {*tree.pids(BROKER), *tree.pids(REDIS)}
    ours = [pid for pid in descendants(scene.pid) if pid not in servers]
    report = load.watch.report
    return {
        "memory": sum(map(_private_bytes, ours)) / MIB,
        "files": sum(map(_num_open_files, ours)),
        "redis_memory": _redis_memory(settings) / MIB,
        "disk": _counted_bytes(settings.state_dir) / MIB,
        "lag": report.lag if report else 0,
    }


def _private_bytes(pid: int) -> int:
    """Returns the bytes of memory that only this process uses (USS); 0 if the process has ended."""
    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_full_info().uss)
    return 0


def _num_open_files(pid: int) -> int:
    with suppress(psutil.Error):
        return int(psutil.Process(pid).num_fds())
    return 0


def _redis_memory(settings: Settings) -> int:
    with closing(redis.Redis.from_url(settings.store.url, protocol=2)) as client:
        return int(client.info("memory")["used_memory"])


def _counted_bytes(folder: Path) -> int:
    """Returns the total size in bytes of the files in a state folder, except the folders UNCOUNTED."""
    num_bytes = 0
    for path in folder.rglob("*"):
        # A file may be removed meanwhile.
        with suppress(OSError):
            if path.is_file() and path.relative_to(folder).parts[0] not in UNCOUNTED:
                num_bytes += path.stat().st_size
    return num_bytes
