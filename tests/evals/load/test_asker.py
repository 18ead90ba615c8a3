"""A request is repeated once if the connection was refused or lost."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from evals.load.asker import RequestFailed, predict
from evals.load.labeller import Reply
from services.local.children import free_port

ANSWER = {"event_id": "e", "key": "k", "receipt": "r", "rollout_revision": 3, "source": "http"}


@contextmanager
def server(*replies: bytes) -> Iterator[int]:
    """Sends one of `replies` on each connection, in order. An empty reply closes the connection."""
    waiting = iter(replies)

    class OneReply(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(next(waiting))

    with socketserver.TCPServer(("127.0.0.1", 0), OneReply) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield listening.server_address[1]
        listening.shutdown()
        thread.join()


def reply(status: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content


def test_an_answer_that_comes_after_a_lost_connection_counts() -> None:
    with server(b"", reply("200 OK", {"answers": [ANSWER]})) as port:
        assert predict(f"127.0.0.1:{port}", {"text": "a"}) == Reply("e", "k", "r", "http", revision=3)


def test_a_connection_that_is_lost_twice_is_a_failure() -> None:
    with server(b"", b"") as port, pytest.raises(RequestFailed):
        predict(f"127.0.0.1:{port}", {"text": "a"})


def test_a_refusal_is_not_repeated() -> None:
    with server(reply("503 Busy", "later")) as port, pytest.raises(RequestFailed, match="503"):
        predict(f"127.0.0.1:{port}", {"text": "a"})


def test_a_refused_connection_is_a_failure() -> None:
    with pytest.raises(RequestFailed, match="ConnectionRefusedError"):
        predict(f"127.0.0.1:{free_port()}", {"text": "a"})
