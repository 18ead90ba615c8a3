"""The HTTP port of a replica: uvicorn in a thread of its own, on a port that all replicas of the machine share.

    client --> host:port --(the kernel picks a replica for each connection)--> uvicorn --> application

Every replica listens on the configured address with SO_REUSEPORT, be it one replica or several: there is no extra hop
and no proxy process, and a replica that restarts is back on the same port. Rejected: the proxy of Ray Serve (5 ms of
CPU a request); its direct ingress (each replica on a port of Ray's choosing, from 30000 on, that moves with a restart,
and 35 s to drain); its HAProxy (binds all interfaces whatever it is told, with a control socket that anybody may write
to).
"""

import errno
import http.client
import resource
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import psutil
import structlog
import uvicorn
from starlette.types import ASGIApp

from serving.config import ServingConfig
from serving.errors import Unhealthy
from serving.http.connection import Bounds, Connection, ConnectionLimit, bounds_of
from wire.threads import BackgroundThread

BACKLOG = 2_048

RESERVED_FILES = 256
"""Files that the process may open besides its HTTP connections. Fewer would cut it off from Kafka and Redis."""

TICKS_PER_CHECK = 10
"""Ticks of uvicorn, which come every 0.1 s, between two checks of the connections."""

LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a replica that listens on all addresses is asked."""

HEALTH_TIMEOUT_S: Final = 1.0
"""How long another replica may take to say that it has weights."""

REPLICA_TITLE = "ray::ServeReplica:lifelong:"
"""The prefix of the process title that Ray gives a replica."""

ORPHAN_S = 30.0
"""Longest time that the port stays taken by an orphan: a replica whose Ray has died."""

PORT_POLL_S = 0.5

DEFAULTS = bounds_of(ServingConfig())

log = structlog.get_logger("http")


def count_nothing(code: str) -> None:
    """Ignores the code: the default of `Listener.note`."""


class PortTaken(OSError):
    """Another program listens on the address."""


def check_port(host: str, port: int) -> None:
    """Raises PortTaken where another process listens there: a shared port would silently mix two services."""
    with _socket(host) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTaken(
                error.errno, f"{host}:{port} is taken: stop what listens there, or choose another"
            ) from None


def await_port(host: str, port: int, stop: threading.Event) -> None:
    """Returns when nobody listens there, or `stop` is set.

    Raises PortTaken, at once unless a replica of ours listens: one whose Ray has died ends when it notices.
    """
    deadline_s = time.monotonic() + ORPHAN_S
    while not stop.is_set():
        try:
            check_port(host, port)
        except PortTaken:
            if time.monotonic() > deadline_s or not _is_replica(port):
                raise
            stop.wait(PORT_POLL_S)
        else:
            return


def leave_to_others(host: str, port: int, can_answer: Callable[[], bool], timeout_s: float) -> None:
    """Returns when this replica can answer, or when no other one of this machine can, or after `timeout_s` seconds.

    The kernel shares the connections out among all replicas that listen on the port. So a replica that starts without
    weights, because the store was wiped or is away, would refuse requests that another one answers.
    """
    deadline_s = time.monotonic() + timeout_s
    while not can_answer() and time.monotonic() < deadline_s and _another_answers(host, port):
        time.sleep(PORT_POLL_S)  # nothing tells when the other replica ends


def _another_answers(host: str, port: int) -> bool:
    """Whether a replica that listens there has weights. This one does not listen yet."""
    connection = http.client.HTTPConnection(LOOPBACK.get(host, host), port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/v1/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Listener:
    """Serves `app` from construction until `close`.

    `note` is called with the reason's code whenever a connection is ended because of what its client did.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        drain_timeout_s: float,
        bounds: Bounds = DEFAULTS,
        note: Callable[[str], None] = count_nothing,
    ) -> None:
        self._socket = _socket(host)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((host, port))
        self._socket.listen(BACKLOG)  # from now on a client waits instead of being refused
        self.port: int = self._socket.getsockname()[1]
        """The port; where 0 was requested, the one that the system chose."""
        self._server = _Server(
            uvicorn.Config(
                app,
                http=partial(Connection, limit=ConnectionLimit(within_file_limit(bounds), note)),  # type: ignore[arg-type]  # uvicorn only calls it
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",  # a warning for each malformed request would let clients fill the disk
                access_log=False,
                server_header=False,
                proxy_headers=False,  # a client could choose the address of its rate limit
                backlog=BACKLOG,
                timeout_keep_alive=bounds.keep_alive_s,
                timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
            )
        )
        self._thread = BackgroundThread(self._run, name="HTTP server")
        self._thread.start()

    def check(self, *, timeout_s: float) -> None:
        """Raises Unhealthy where the thread has ended by itself, or its event loop has hung for `timeout_s`."""
        self._thread.check(Unhealthy)
        if time.monotonic() - self._server.ticked_s > timeout_s:
            raise Unhealthy(f"the HTTP server has stood still for more than {timeout_s:g} s")

    def close(self) -> None:
        """Accepts no new connection, and returns when the requests in progress are answered."""
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        """Serves until closed.

        consumes: connections to the port
        produces: responses of the application
        waits for: a connection, or a request on one
        unblocked by: clients; close, seen within 0.1 s
        """
        self._server.run(sockets=[self._socket])


class _Server(uvicorn.Server):
    """Checks the deadlines of its connections, and notes at every tick that the loop runs."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ticked_s = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        self.ticked_s = time.monotonic()
        if counter % TICKS_PER_CHECK == 0:
            for connection in list(self.server_state.connections):
                assert isinstance(connection, Connection)
                connection.check_deadlines()
        return await super().on_tick(counter)


def _is_replica(port: int) -> bool:
    """Whether a replica listens on the port, of our Ray or of another."""
    listening_pids = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
    }
    processes = psutil.process_iter(["pid", "cmdline"])
    cmdlines = [process.info["cmdline"] for process in processes if process.info["pid"] in listening_pids]
    return any(cmdline and cmdline[0].startswith(REPLICA_TITLE) for cmdline in cmdlines)


def allowed_connections(wanted: int, *, soft: int, hard: int) -> tuple[int, int]:
    """Returns how many connections there may be, and the soft limit of open files that they need: at most the hard one.

    >>> allowed_connections(1_024, soft=1_024, hard=20_000), allowed_connections(1_024, soft=512, hard=1_024)
    ((1024, 1280), (768, 1024))
    """
    needed = wanted + RESERVED_FILES
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    return max(1, min(wanted, soft - RESERVED_FILES)), soft


def within_file_limit(bounds: Bounds, *, beside: int = 0) -> Bounds:
    """Limits the connections to the files that the process may open besides the `beside` connections of another port.

    Raises the soft limit of the process where that is needed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    together, needed = allowed_connections(bounds.max_connections + beside, soft=soft, hard=hard)
    allowed = max(1, together - beside)
    if needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    if allowed < bounds.max_connections:
        log.warning("fewer_connections", wanted=bounds.max_connections, allowed=allowed, files=needed)
    return replace(bounds, max_connections=allowed)


def _socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return listening
