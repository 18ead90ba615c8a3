"""The gRPC port of a replica: a `grpc.aio` server in its own thread, on a port that all replicas share.

    client --> host:port --(the kernel picks a replica for each connection)--> grpc.aio --> InferenceService
                    '--TLS, if there is a certificate (`serving/grpc/certificates.py`)
    open files of this process --sockets of our port--> count by network --above the bound--> shut down, gRPC closes

If a message is larger than the limit, the library refuses it by its length, before it is read, with RESOURCE_EXHAUSTED.

Connections have the same bounds as HTTP connections. The library enforces the bound of the process, and the
`ConnectionGuard` enforces the bound of each address. gRPC does not expose its connections, so twice a second the guard
searches the open files of this process, which takes 4 us a file. So for half a second, one address may have more
connections than its bound, but not more than the bound of the process.
"""

import asyncio
import os
import socket
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Final, NamedTuple

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection

from serving.config import ServingConfig
from serving.endpoints import Core
from serving.errors import Unhealthy
from serving.grpc.certificates import Certificates, open_certificates
from serving.grpc.proto import SERVICE, pool
from serving.grpc.service import HEALTH, InferenceService, ReadSlots
from serving.http.api import Api
from serving.http.connection import TOO_MANY_CONNECTIONS, Bounds, ConnectionLimit, connection_bounds
from serving.http.listener import await_port, within_file_limit
from serving.http.origin import to_network
from wire.inputs import max_event_bytes
from wire.threads import BackgroundThread

FILES: Final = "/proc/self/fd"


class PeerAddress(NamedTuple):
    """The other end of a connection."""

    address: str
    port: int


class ConnectionGuard:
    """Ends connections above the bounds of `limit`, the newest first, whenever `check` is called."""

    def __init__(self, port: int, limit: ConnectionLimit) -> None:
        self._port = port
        self._limit = limit
        self._networks: dict[PeerAddress, str] = {}

    def check(self) -> None:
        """Counts all connections of the port, and ends connections above the bounds."""
        connections = sockets_at(self._port)
        for peer in self._networks.keys() - connections.keys():
            self._limit.leave(self._networks.pop(peer))
        for peer, connection in connections.items():
            with closing(connection):
                if peer not in self._networks:
                    self._admit(peer, connection)

    def _admit(self, peer: PeerAddress, connection: socket.socket) -> None:
        network = to_network(peer.address)
        if self._limit.enter(network):
            self._networks[peer] = network
            return
        self._limit.note(TOO_MANY_CONNECTIONS.code)
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The client has closed the connection already.
            return


def sockets_at(port: int) -> dict[PeerAddress, socket.socket]:
    """Returns this process's connections at one of its ports, by peer. The caller must close each socket.

    Each socket is a duplicate, so a file descriptor that is closed and reused meanwhile cannot be mistaken for another.
    """
    by_peer: dict[PeerAddress, socket.socket] = {}
    for name in os.listdir(FILES):
        connection = _find_socket(name)
        if connection is None:
            continue
        try:
            is_here = connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getsockname()[1] == port
            peer = PeerAddress(*connection.getpeername()[:2]) if is_here else None
        except OSError:
            # It is a listening socket, or its client has disconnected.
            peer = None
        if peer is None or peer in by_peer:
            connection.close()
        else:
            by_peer[peer] = connection
    return by_peer


def _find_socket(name: str) -> socket.socket | None:
    """Returns a duplicate of an open file if it is a socket, else None."""
    try:
        if not os.readlink(f"{FILES}/{name}").startswith("socket:"):
            return None
        return socket.socket(fileno=os.dup(int(name)))
    except OSError:
        # The file was closed meanwhile.
        return None


START_TIMEOUT_S = 10.0
TICK_S = 0.5
"""Interval in seconds at which the event loop records that it runs."""

STREAMS_PER_CONNECTION = 128

READS = 64
"""Number of messages that are read at the same time. A message has at most 1 MiB, so together they have at most 64 MiB,
which is the default of `max_request_bytes`."""


@dataclass(slots=True)
class _State:
    """The server thread's state, for other threads. `port` is 0 until the server listens."""

    port: int = 0
    ticked_s: float = 0.0
    loop: asyncio.AbstractEventLoop | None = None
    stop: asyncio.Event | None = None


class GrpcEndpoint:
    """The gRPC port."""

    def check(self, config: ServingConfig, stop: threading.Event) -> None:
        open_certificates(config)
        await_port(config.http_host, config.grpc_port, stop)

    def open(self, core: Core, config: ServingConfig) -> "GrpcListener":
        """Starts to listen. Raises BadCertificate, or OSError if it cannot listen."""
        return GrpcListener(
            core.api(),
            host=config.http_host,
            port=config.grpc_port,
            drain_timeout_s=config.drain_timeout_s,
            bounds=connection_bounds(config),
            certificates=open_certificates(config),
        )


ENDPOINT: Final = GrpcEndpoint()


class GrpcListener:
    """Serves `api` from construction until `close`. The constructor raises OSError if it cannot listen."""

    def __init__(
        self,
        api: Api,
        *,
        host: str,
        port: int,
        drain_timeout_s: float,
        bounds: Bounds,
        certificates: Certificates | None = None,
    ) -> None:
        self._api = api
        self._certificates = certificates
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._drain_timeout_s = drain_timeout_s
        self._bounds = within_file_limit(bounds, others=bounds.max_connections)
        self._state = _State()
        self._listens = threading.Event()
        self._thread = BackgroundThread(self._run, name="gRPC server")
        self._thread.start()
        self._listens.wait(START_TIMEOUT_S)
        if not self._state.port:
            raise OSError(
                f"gRPC cannot listen on {self._address}: check the address, or choose a free serving.grpc_port"
            )

    @property
    def port(self) -> int:
        """The port; if 0 was requested, the port that the system chose."""
        return self._state.port

    def check(self, *, timeout_s: float) -> None:
        """Raises Unhealthy if the thread has ended without `close`, or its event loop has hung for `timeout_s`."""
        self._thread.check(Unhealthy)
        if time.monotonic() - self._state.ticked_s > timeout_s:
            raise Unhealthy(f"the gRPC server has hung for more than {timeout_s:g} s")

    def close(self) -> None:
        """Accepts no new call, and returns when all calls in progress are answered."""
        if self._state.loop is not None and self._state.stop is not None:
            self._state.loop.call_soon_threadsafe(self._state.stop.set)
        self._thread.join()

    def _run(self) -> None:
        """Serves until closed.

        consumes: connections to the port
        produces: responses of the service
        waits for: a call on a connection
        unblocked by: clients; close
        """
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = grpc.aio.server(options=self._options(), maximum_concurrent_rpcs=self._bounds.max_connections)
        service = InferenceService(self._api, ReadSlots(READS), body_timeout_s=self._bounds.body_timeout_s)
        server.add_generic_rpc_handlers(service.handlers())
        reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), server, pool=pool())
        try:
            port = self._add_port(server)
        except RuntimeError:
            self._listens.set()
            return
        await server.start()
        self._state = _State(port, time.monotonic(), asyncio.get_running_loop(), asyncio.Event())
        self._listens.set()
        await self._tick_until_stopped()
        await server.stop(self._drain_timeout_s)

    def _add_port(self, server: grpc.aio.Server) -> int:
        """Opens the port, only for TLS if there is a certificate. Raises RuntimeError if the port is taken."""
        if self._certificates is None:
            return int(server.add_insecure_port(self._address))
        return int(server.add_secure_port(self._address, self._certificates.credentials()))

    async def _tick_until_stopped(self) -> None:
        assert self._state.stop is not None
        guard = ConnectionGuard(self._state.port, ConnectionLimit(self._bounds, self._api.count_refused))
        stopped = asyncio.ensure_future(self._state.stop.wait())
        while not stopped.done():
            self._state.ticked_s = time.monotonic()
            guard.check()
            await asyncio.wait([stopped], timeout=TICK_S)

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", max_event_bytes()),
            ("grpc.max_metadata_size", self._bounds.max_header_bytes),
            ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
            ("grpc.max_connection_idle_ms", 1_000 * self._bounds.keep_alive_s),
            ("grpc.max_allowed_incoming_connections", self._bounds.max_connections),
            ("grpc.server_handshake_timeout_ms", round(1_000 * self._bounds.header_timeout_s)),
        ]
