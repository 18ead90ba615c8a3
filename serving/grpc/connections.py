"""The connections of the gRPC port by address: those beyond the bound of one address are ended.

    open files of this process --those at our port--> by network --beyond the bound--> shut down, so gRPC closes them

gRPC bounds the connections of a server (`grpc.max_allowed_incoming_connections`), but neither those of one address,
nor does it show its connections to a program. They are files of this process, so they are found among these: twice a
second, which takes 4 us for each file. Within half a second one address may have more, within the bound of the server.

Rejected: a proxy before the server, which counts what it accepts (every byte would be copied once more by Python, and
the server would see the proxy's address).
"""

import os
import socket
from contextlib import closing
from typing import Final, NamedTuple

from serving.http.clients import network_of
from serving.http.connection import TOO_MANY_CONNECTIONS, ConnectionLimit

FILES: Final = "/proc/self/fd"


class PeerAddress(NamedTuple):
    """The other end of a connection."""

    address: str
    port: int


class ConnectionGuard:
    """Ends the connections beyond the bounds of `limit`, the newest ones, each time that it is asked to `check`."""

    def __init__(self, port: int, limit: ConnectionLimit) -> None:
        self._port = port
        self._limit = limit
        self._networks: dict[PeerAddress, str] = {}

    def check(self) -> None:
        """Looks at all connections of the port."""
        found = sockets_at(self._port)
        for peer in self._networks.keys() - found.keys():
            self._limit.leave(self._networks.pop(peer))
        for peer, connection in found.items():
            with closing(connection):
                if peer not in self._networks:
                    self._admit(peer, connection)

    def _admit(self, peer: PeerAddress, connection: socket.socket) -> None:
        network = network_of(peer.address)
        if self._limit.enter(network):
            self._networks[peer] = network
            return
        self._limit.note(TOO_MANY_CONNECTIONS.code)
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # the client was faster
            return


def sockets_at(port: int) -> dict[PeerAddress, socket.socket]:
    """Returns the connections of this process at a port of its own, by their peers. The caller closes each socket.

    Each socket is a duplicate, so a file that is closed and opened anew meanwhile is never taken for another one.
    """
    found: dict[PeerAddress, socket.socket] = {}
    for name in os.listdir(FILES):
        connection = _socket_of(name)
        if connection is None:
            continue
        try:
            is_here = connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getsockname()[1] == port
            peer = PeerAddress(*connection.getpeername()[:2]) if is_here else None
        except OSError:  # it listens, or its client has gone
            peer = None
        if peer is None or peer in found:
            connection.close()
        else:
            found[peer] = connection
    return found


def _socket_of(name: str) -> socket.socket | None:
    """Returns a duplicate of an open file, where it is a socket."""
    try:
        if not os.readlink(f"{FILES}/{name}").startswith("socket:"):
            return None
        return socket.socket(fileno=os.dup(int(name)))
    except OSError:  # it was closed
        return None
