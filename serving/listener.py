"""The HTTP port of a replica: uvicorn in a thread of its own, on a port that all replicas of the machine share.

    client --> host:port --(the kernel picks a replica for each connection)--> uvicorn --> application

Every replica listens on the address that the user was told, with SO_REUSEPORT, be it one replica or several: no hop, no
proxy process, and a replica that restarts is back on the same port. Rejected: the proxy of Ray Serve (5 ms of CPU a
request); its direct ingress (each replica on a port of Ray's choosing, from 30000 on, that moves with a restart, and
35 s to drain); its HAProxy (binds all interfaces whatever it is told, with a control socket that anybody may write to).
"""

import errno
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

BACKLOG = 2_048
KEEP_ALIVE_S = 75


class PortTaken(OSError):
    """Another program listens on the address."""


def check_port(host: str, port: int) -> None:
    """Raises PortTaken where anybody listens there: a shared port would mix two services without a word."""
    with _socket(host) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTaken(
                error.errno, f"{host}:{port} is taken: stop what listens there, or choose another"
            ) from None


class Listener:
    """Serves `app` from construction until `close`."""

    def __init__(self, app: ASGIApp, *, host: str, port: int, drain_timeout_s: float) -> None:
        self._socket = _socket(host)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((host, port))
        self._socket.listen(BACKLOG)  # from now on a client waits instead of being refused
        self.port: int = self._socket.getsockname()[1]
        """The port; the system's choice where 0 was asked for."""
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,  # a client could choose the address that its rate is limited by
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
            )
        )
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Takes no new connection, and returns when the requests that are on their way are answered."""
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


def _socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made
