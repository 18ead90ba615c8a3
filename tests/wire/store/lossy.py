"""A proxy before a server that drops replies: the command takes effect, and its caller gets no reply."""

import select
import socket
import threading
from contextlib import suppress
from urllib.parse import unquote, urlsplit


class LossyProxy:
    """Forwards bytes between clients and the Unix socket at `url`; closes the connection in place of `lose` replies.

    A reply is lost where its command contains `marker`.
    """

    def __init__(self, url: str) -> None:
        self._upstream = unquote(urlsplit(url).path)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.marker = b""
        self.lose = 0
        self.lost = 0
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads.pop(0).join()
        for client in self._clients:
            with suppress(OSError):  # it went first
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._clients.append(client)
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        """Forwards bytes in both directions until either side ends, or the reply to a marked command is due."""
        is_marked = False
        with suppress(OSError), client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._upstream)
            while True:
                for source in select.select([client, server], [], [])[0]:
                    if not (said := source.recv(1 << 16)):
                        return
                    if source is client:
                        is_marked = self.marker in said
                    elif is_marked and self.lose:
                        self.lose -= 1
                        self.lost += 1
                        return
                    (server if source is client else client).sendall(said)
