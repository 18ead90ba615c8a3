"""The peers over HTTP: they are started, polled until they answer, and stopped."""

import json
import sys
from pathlib import Path

import pytest

from bench.harness.process import PeerFailed
from bench.http_load import over_http, post
from bench.peers import http_servers
from bench.peers.http_servers import PEERS, HttpPeer, environment, running_peer
from evals.results.row import NoResult

SERVER = """
import http.server, sys

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Answer).serve_forever()
"""


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_servers, "folder", lambda name: tmp_path)


def make_peer(tmp_path: Path, program: str) -> HttpPeer:
    path = tmp_path / "program.py"
    path.write_text(program)
    return HttpPeer("a peer", "app", file=path)


def test_a_peer_answers_while_it_is_measured_and_is_gone_then(tmp_path: Path) -> None:
    with running_peer(make_peer(tmp_path, SERVER), tmp_path, ["a"]) as port:
        assert over_http(port, [post("/predict", {}, port=port)], num_clients=1, seconds=0.2)
    with pytest.raises(NoResult):
        over_http(port, [b""], num_clients=1, seconds=0.2)


def test_a_peer_that_ends_at_once_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(PeerFailed, match="no such library"),
        running_peer(make_peer(tmp_path, "raise SystemExit('no such library')"), tmp_path, ["a"]),
    ):
        pass


def test_missing_packages_are_named(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match="cannot be installed"):
        environment(("./no-such-folder",))
    assert environment(()) == Path(sys.executable)


def test_every_program_is_there_and_has_its_form() -> None:
    for peer in PEERS:
        assert f'APP == "{peer.app}"' in peer.file.read_text()
        (request, *others) = peer.requests(8_000, [f"text {number}" for number in range(33)], 16)
        assert len(others) == 1
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(f"POST {peer.path} HTTP/1.1".encode())
        assert b"text 15" in body and json.loads(body)
