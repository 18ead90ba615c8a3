"""Times every kernel by itself, for the shapes of a MiniLM block: ours beside its other implementations and torch's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.fixtures import Fixtures
from bench.process import run_module
from evals.results.row import Peer, Row


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSize:
    """What `--set` may change."""

    threads: int = 1


def measure(fixtures: Fixtures) -> Iterator[Row]:
    size = fixtures.sized(KernelSize())
    fixtures.stop_service()
    yield from rows_of(run_module("bench.peers.kernel_speed", str(size.threads)))


def rows_of(measured: Mapping[str, Any]) -> Iterator[Row]:
    """Yields the peak, and a row for each kernel and shape. A ratio below 1 means that ours takes less time."""
    peak = measured["peak"]
    yield Row.of(name="kernels.peak", value=round(peak["giga_per_s"]), unit="INT8 GOP/s", note=peak["how"])
    for each in measured["kernels"]:
        (ours, our_us), *others = each["us"].items()
        peers = tuple(Peer(name, round(us, 1)) for name, us in sorted(others, key=lambda other: other[1]))
        note = f"{ours}; the limit: {each['limit_us']:.1f} us"
        yield Row.of(name=f"kernels.{each['name']}", value=round(our_us, 1), unit="us", peers=peers, note=note)
