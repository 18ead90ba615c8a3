"""The endpoints of a replica besides Kafka. They are opened by name, and checked and closed together.

    ENDPOINTS, names --import by name--> Endpoint --check: before anything starts
                                                  --open(core, config)--> OpenEndpoint --check, close
    Gateway.submit(events, dones, item_options) --queue, engine--> done(outcome), in the engine's thread

Each endpoint is a module that is imported by name when the endpoint is opened. No module here imports it otherwise.
HTTP serves the paths of all its protocols on one port (`serving/http/app.py`); gRPC has its own port. Both use
`Core.api`, which has the API keys, limits and errors that they share. An endpoint that needs none of these uses only
`Core.gateway`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from threading import Event
from typing import TYPE_CHECKING, Final, Protocol

from serving.config import ServingConfig
from serving.queue import DEFAULT, Done, ItemOptions
from wire.records import Event as EventRecord

if TYPE_CHECKING:
    from serving.http.api import Api


class Gateway(Protocol):
    """The interface of the core for endpoints. Any thread may call it; it never waits for the model."""

    @property
    def is_ready(self) -> bool:
        """Whether weights are loaded, so that events can be answered."""

    def submit(self, events: Sequence[EventRecord], dones: Sequence[Done], item_options: ItemOptions = DEFAULT) -> int:
        """Queues as many of the first events as there is room for, and returns their number.

        The engine's thread calls the `done` of each queued event once, with the outcome. It does not call it if the
        caller no longer waits (`item_options.is_wanted`). Raises QueueClosed.
        """

    def count(self, name: str) -> None:
        """Adds one to a counter of the replica."""


class Core(Protocol):
    """A replica, as its endpoints see it."""

    @property
    def gateway(self) -> Gateway: ...

    def api(self, *, listens: bool = True) -> "Api": ...


class OpenEndpoint(Protocol):
    """An endpoint that accepts events until it is closed."""

    def check(self, *, timeout_s: float) -> None:
        """Raises Unhealthy if it has ended without `close`, or has hung for `timeout_s` seconds."""

    def close(self) -> None:
        """Accepts no more events, and returns when all events in progress have their outcomes."""


class Endpoint(Protocol):
    """A way for events to enter a replica."""

    def check(self, config: ServingConfig, stop: Event) -> None:
        """Checks before the start whether `open` can succeed. Raises PortTaken, BadKeys or BadCertificate.

        If the port is still in use, it waits for a while until the port is free, or `stop` is set.
        """

    def open(self, core: Core, config: ServingConfig) -> OpenEndpoint:
        """Starts to accept events. Raises an error if it cannot, for example if the port is in use."""


ENDPOINTS: Final[Mapping[str, tuple[str, Callable[[ServingConfig], bool]]]] = {
    "http": ("serving.http.app", lambda config: True),
    "grpc": ("serving.grpc.listener", lambda config: config.grpc_port > 0),
}
"""Name -> (the module, a function that returns whether the settings enable it). The module's ENDPOINT is the endpoint.

Endpoints are opened in this order.
"""


def enabled_endpoints(config: ServingConfig, *, but: Collection[str] = ()) -> list[Endpoint]:
    """Returns the endpoints that the settings enable, except the names in `but`. Imports their modules."""
    enabled: list[Endpoint] = []
    for name, (module, is_on) in ENDPOINTS.items():
        if name not in but and is_on(config):
            endpoint: Endpoint = import_module(module).ENDPOINT
            enabled.append(endpoint)
    return enabled


class OpenEndpoints:
    """Owns the open endpoints.

    If an endpoint cannot be opened, the constructor closes the endpoints before it and raises the error.
    """

    def __init__(self, core: Core, config: ServingConfig, endpoints: Iterable[Endpoint]) -> None:
        self._open: list[OpenEndpoint] = []
        with ExitStack() as opening:
            opening.callback(self.close)
            for endpoint in endpoints:
                self._open.append(endpoint.open(core, config))
            opening.pop_all()

    def check(self, *, timeout_s: float) -> None:
        """Raises Unhealthy if an endpoint has ended without `close`, or has hung for `timeout_s` seconds."""
        for endpoint in self._open:
            endpoint.check(timeout_s=timeout_s)

    def close(self) -> None:
        """Closes the endpoints in the order in which they were opened."""
        for endpoint in self._open:
            endpoint.close()
