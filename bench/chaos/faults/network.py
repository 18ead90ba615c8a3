"""Disturbs the connections between programs and servers, by Toxiproxy."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.chaos.faults.fault import Lasting
from bench.chaos.toxiproxy import Proxy

TOXICS: dict[str, tuple[str, dict[str, int]]] = {
    "black hole": ("timeout", {"timeout": 0}),
    "delay": ("latency", {"latency": 200, "jitter": 50}),
    "bandwidth": ("bandwidth", {"rate": 64}),
    "partial writes": ("slicer", {"average_size": 64, "size_variation": 32, "delay": 500}),
    "reset": ("reset_peer", {"timeout": 0}),
    "cut in mid-message": ("limit_data", {"bytes": 4_096}),
}
"""The toxics by our name, with Toxiproxy's name and the severity: milliseconds, KB/s, bytes and microseconds, bytes."""


@dataclass(frozen=True, slots=True)
class Cut(Lasting):
    """Cuts the connections between a program and a server, and refuses new ones."""

    connection: str
    proxies: Sequence[Proxy]
    lasts_s: float
    num_kills: int = 0

    @property
    def name(self) -> str:
        return f"cut {self.connection}"

    def inject(self) -> str:
        for proxy in self.proxies:
            proxy.enable(False)
        return ""

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.enable(True)


@dataclass(frozen=True, slots=True)
class Toxic(Lasting):
    """Applies a toxic of Toxiproxy to the bytes between a program and a server."""

    what: str
    connection: str
    proxies: Sequence[Proxy]
    kind: str
    attributes: dict[str, int]
    lasts_s: float
    num_kills: int = 0

    @property
    def name(self) -> str:
        return f"{self.what} {self.connection}"

    def inject(self) -> str:
        for proxy in self.proxies:
            proxy.poison(self.kind, self.attributes)
        return f"{self.kind} {self.attributes}"

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.cure(self.kind)
