"""The ways into a replica beside Kafka: each is opened by its name, and checked and closed with the others.

    ENDPOINTS, names --import by name--> Endpoint --check: before anything starts
                                                  --open(core, config)--> OpenEndpoint --check, close
    Gateway.submit(events, dones, terms) --queue, engine--> done(outcome), in the engine's thread

A way in is a module of its own: nothing else in this room knows it. HTTP has the paths of all its protocols on one port
(`serving/http/app.py`), gRPC another one. Both ask for `Core.api`: what they share of keys, limits and problems. A way
in that needs none of that asks for `Core.gateway` alone. A module is imported only if its way in is to be opened.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from threading import Event
from typing import TYPE_CHECKING, Final, Protocol

from serving.config import ServingConfig
from serving.queue import DEFAULT, Done, Terms
from wire.records import Event as EventRecord

if TYPE_CHECKING:
    from serving.http.api import Api


class Gateway(Protocol):
    """What the core offers to a way in. Any thread may call it; it never waits for the model."""

    @property
    def is_ready(self) -> bool:
        """Whether there are weights to answer with."""

    def submit(self, events: Sequence[EventRecord], dones: Sequence[Done], terms: Terms = DEFAULT) -> int:
        """Queues the first events that there is room for, and returns how many. Each of them gets its outcome by its
        `done`, once, in the engine's thread, unless nobody waits for it any more. Raises QueueClosed."""

    def count(self, name: str) -> None:
        """Adds one to a counter of the replica."""


class Core(Protocol):
    """A replica, as a way in sees it."""

    @property
    def gateway(self) -> Gateway: ...

    def api(self, *, listens: bool = True) -> "Api": ...


class OpenEndpoint(Protocol):
    """A way in that takes events until it is closed."""

    def check(self, *, timeout_s: float) -> None:
        """Raises Unhealthy if it has ended by itself, or has stood still for `timeout_s`."""

    def close(self) -> None:
        """Takes no more events, and returns when those in progress have their outcomes."""


class Endpoint(Protocol):
    """A way in."""

    def check(self, config: ServingConfig, stop: Event) -> None:
        """Raises what would keep it from opening, before anything starts: PortTaken, BadKeys, BadCertificate. Waits for
        a port that ends to be used, until `stop`."""

    def open(self, core: Core, config: ServingConfig) -> OpenEndpoint:
        """Begins to take events. Raises what keeps it from that, such as a port that is taken."""


ENDPOINTS: Final[Mapping[str, tuple[str, Callable[[ServingConfig], bool]]]] = {
    "http": ("serving.http.app", lambda config: True),
    "grpc": ("serving.grpc.listener", lambda config: config.grpc_port > 0),
}
"""The module of each way in, which has it as ENDPOINT, and whether the settings have it on; they open in this order."""


def endpoints_of(config: ServingConfig, *, but: Collection[str] = ()) -> list[Endpoint]:
    """Returns the ways in that are on, without those in `but`. Imports their modules."""
    found: list[Endpoint] = []
    for name, (module, is_on) in ENDPOINTS.items():
        if name not in but and is_on(config):
            endpoint: Endpoint = import_module(module).ENDPOINT
            found.append(endpoint)
    return found


class OpenEndpoints:
    """Owns the ways in that are open. If one cannot be opened, those before it are closed, and its error is raised."""

    def __init__(self, core: Core, config: ServingConfig, endpoints: Iterable[Endpoint]) -> None:
        self._open: list[OpenEndpoint] = []
        with ExitStack() as opening:
            opening.callback(self.close)
            for endpoint in endpoints:
                self._open.append(endpoint.open(core, config))
            opening.pop_all()

    def check(self, *, timeout_s: float) -> None:
        """Raises Unhealthy if one of them has ended by itself, or has stood still for `timeout_s`."""
        for each in self._open:
            each.check(timeout_s=timeout_s)

    def close(self) -> None:
        """Closes them in the order in which they were opened."""
        for each in self._open:
            each.close()
