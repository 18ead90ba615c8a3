"""Checks the effect of each network fault on a connection through Toxiproxy."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bench.chaos.faults import CUT, Fault, network_fault
from bench.chaos.toxiproxy import Proxy, Toxiproxy
from evals.results.row import Skip
from tests.required import missing

pytestmark = pytest.mark.live

PATIENCE_S = 0.5
SENT = b"0123456789" * 800


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """The address of a server that echoes all bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=[server], daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def serve(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=send_back, args=[connection], daemon=True).start()


def send_back(connection: socket.socket) -> None:
    with connection:
        try:
            while received := connection.recv(65_536):
                connection.sendall(received)
        except OSError:
            return


@pytest.fixture(scope="module")
def proxy(echo: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    try:
        toxiproxy = Toxiproxy(tmp_path_factory.mktemp("toxiproxy"))
    except Skip as why:
        missing("toxiproxy", str(why))
    yield toxiproxy.proxy("echo", echo)
    toxiproxy.close()


def echoed(proxy: Proxy) -> tuple[int, float]:
    """Returns the number of echoed bytes, and the seconds until the last of them."""
    host, _, port = proxy.listen.partition(":")
    start_s = time.monotonic()
    num = 0
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(SENT)
        try:
            while num < len(SENT) and (received := connection.recv(65_536)):
                num += len(received)
        except TimeoutError:
            pass
    return num, time.monotonic() - start_s


def make_fault(what: str, proxy: Proxy) -> Fault:
    return network_fault(what, "us and echo", [proxy], 1.0)


@pytest.mark.parametrize(
    ("what", "fewest", "most", "from_s"),
    [
        ("black hole", 0, 0, PATIENCE_S),
        ("delay", len(SENT), len(SENT), 0.3),
        ("bandwidth", len(SENT), len(SENT), 0.1),
        ("partial writes", len(SENT), len(SENT), 0.02),
        ("cut in mid-message", 0, 4_096, 0.0),
    ],
)
def test_a_toxic_has_its_effect_and_is_cured(proxy: Proxy, what: str, fewest: int, most: int, from_s: float) -> None:
    fault = make_fault(what, proxy)
    fault.inject()
    num, took_s = echoed(proxy)
    assert num >= fewest
    assert num <= most
    assert took_s >= from_s
    fault.heal()
    assert echoed(proxy)[0] == len(SENT)


def test_a_connection_is_reset(proxy: Proxy) -> None:
    fault = make_fault("reset", proxy)
    fault.inject()
    with pytest.raises(ConnectionError):
        echoed(proxy)
    fault.heal()
    assert echoed(proxy)[0] == len(SENT)


def test_a_cut_connection_refuses_new_ones(proxy: Proxy) -> None:
    fault = make_fault(CUT, proxy)
    fault.inject()
    with pytest.raises(ConnectionRefusedError):
        echoed(proxy)
    fault.heal()
    assert echoed(proxy)[0] == len(SENT)
