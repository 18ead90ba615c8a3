"""The HTTP port of a replica: uvicorn in its own thread, on a port that all replicas of the machine share.

    client --> host:port --(the kernel picks a replica for each connection)--> uvicorn --> application

Every replica listens on the configured address with SO_REUSEPORT. So there is no proxy, and a restarted replica listens
on the same port again.

Rejected:

- Ray Serve's proxy: it takes 5 ms of CPU time for each request.
- Ray Serve's direct ingress: Ray chooses each replica's port, the port changes with a restart, and draining takes 35 s.
- Ray Serve's HAProxy: it always binds all interfaces, and every user may write to its control socket.
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
from serving.http.connection import Bounds, Connection, ConnectionLimit, connection_bounds
from wire.threads import BackgroundThread

BACKLOG = 2_048

RESERVED_FILES = 256
"""File descriptors reserved for Kafka, Redis and files: HTTP connections must not use up all descriptors."""

TICKS_PER_CHECK = 10
"""Ticks of uvicorn between two checks of the connections. A tick is 0.1 s."""

LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""The address at which a replica that listens on all addresses can be reached from this machine."""

HEALTH_TIMEOUT_S: Final = 1.0
"""Longest time in seconds that another replica may take to answer whether it is ready."""

REPLICA_TITLE = "ray::ServeReplica:lifelong:"
"""The prefix of the process title that Ray gives a replica."""

ORPHAN_S = 30.0
"""Longest time in seconds that a replica whose Ray has died (an orphan) keeps the port."""

PORT_POLL_S = 0.5

DEFAULTS = connection_bounds(ServingConfig())

log = structlog.get_logger("http")


def count_nothing(code: str) -> None:
    """Ignores the code: the default of `Listener.note`."""


class PortTaken(OSError):
    """Another program listens on the address."""


def check_port(host: str, port: int) -> None:
    """Raises PortTaken if another process listens on the port, because two services on one port would get each other's
    requests."""
    with _socket(host) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTaken(
                error.errno, f"{host}:{port} is taken: stop the program that listens there, or choose another port"
            ) from None


def await_port(host: str, port: int, stop: threading.Event) -> None:
    """Waits until the port is free, or `stop` is set.

    Raises PortTaken at once if another program listens there. If one of our replicas listens, it waits for up to
    ORPHAN_S seconds, because a replica whose Ray has died ends as soon as it notices that.
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


def yield_to_others(host: str, port: int, can_answer: Callable[[], bool], timeout_s: float) -> None:
    """Waits until this replica can answer, or no other replica of this machine can, but at most `timeout_s` seconds.

    The kernel distributes connections among all replicas that listen on the port. A replica may start without weights,
    because the store was wiped or is unreachable. If it listened then, it would refuse requests that other replicas
    could answer.
    """
    deadline_s = time.monotonic() + timeout_s
    while not can_answer() and time.monotonic() < deadline_s and _another_answers(host, port):
        # Polling, because no event tells when the other replica ends.
        time.sleep(PORT_POLL_S)


def _another_answers(host: str, port: int) -> bool:
    """Whether another replica listens on the port and has weights. This replica does not listen yet."""
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

    `note` is called with a problem's code whenever a connection is ended because of its client's behaviour.
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
        # From now on the kernel queues connections instead of refusing them.
        self._socket.listen(BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        """The port; if 0 was requested, the port that the system chose."""
        self._server = _Server(
            uvicorn.Config(
                app,
                http=partial(Connection, limit=ConnectionLimit(within_file_limit(bounds), note)),  # type: ignore[arg-type]  # uvicorn only calls it
                ws="none",
                lifespan="off",
                log_config=None,
                # With "warning", clients could fill the disk by malformed requests.
                log_level="error",
                access_log=False,
                server_header=False,
                # With these headers, a client could choose the address to which its rate limit applies.
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=bounds.keep_alive_s,
                timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
            )
        )
        self._thread = BackgroundThread(self._run, name="HTTP server")
        self._thread.start()

    def check(self, *, timeout_s: float) -> None:
        """Raises Unhealthy if the thread has ended without `close`, or its event loop has hung for `timeout_s`."""
        self._thread.check(Unhealthy)
        if time.monotonic() - self._server.ticked_s > timeout_s:
            raise Unhealthy(f"the HTTP server has hung for more than {timeout_s:g} s")

    def close(self) -> None:
        """Accepts no new connection, and returns when all requests in progress are answered."""
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
    """A uvicorn server that checks its connections' deadlines, and records the time of the event loop's last tick."""

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
    """Whether a replica, of any Ray on this machine, listens on the port."""
    listening_pids = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
    }
    processes = psutil.process_iter(["pid", "cmdline"])
    cmdlines = [process.info["cmdline"] for process in processes if process.info["pid"] in listening_pids]
    return any(cmdline and cmdline[0].startswith(REPLICA_TITLE) for cmdline in cmdlines)


def allowed_connections(wanted: int, *, soft: int, hard: int) -> tuple[int, int]:
    """Returns the allowed number of connections, and the soft limit of open files that they need.

    `wanted` is the configured number. `soft` and `hard` are the process's limits of open files.

    >>> allowed_connections(1_024, soft=1_024, hard=20_000), allowed_connections(1_024, soft=512, hard=1_024)
    ((1024, 1280), (768, 1024))
    """
    needed = wanted + RESERVED_FILES
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    return max(1, min(wanted, soft - RESERVED_FILES)), soft


def within_file_limit(bounds: Bounds, *, others: int = 0) -> Bounds:
    """Returns the bounds with `max_connections` lowered to what the process's limit of open files allows.

    `others` is the number of connections of the process's other ports. Raises the process's soft limit if necessary.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    together, needed = allowed_connections(bounds.max_connections + others, soft=soft, hard=hard)
    allowed = max(1, together - others)
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
