"""The port that the replicas of a machine share."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from serving.http.listener import Listener, PortTaken, await_port, check_port, yield_to_others
from tests.waiting import eventually


def app_that_says(name: str) -> Starlette:
    async def say(_: Request) -> Response:
        return PlainTextResponse(name)

    return Starlette(routes=[Route("/", say)])


def make_listener(name: str, port: int = 0) -> Listener:
    return Listener(app_that_says(name), host="127.0.0.1", port=port, drain_timeout_s=2)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = make_listener("one")
    yield listener
    listener.close()


def test_it_serves_the_application(listener: Listener) -> None:
    assert httpx2.get(f"http://127.0.0.1:{listener.port}/").text == "one"


def test_a_second_replica_shares_the_port_and_outlives_the_first(listener: Listener) -> None:
    second = make_listener("two", listener.port)
    names = {httpx2.get(f"http://127.0.0.1:{listener.port}/").text for _ in range(40)}
    assert names == {"one", "two"}
    second.close()
    assert {httpx2.get(f"http://127.0.0.1:{listener.port}/").text for _ in range(10)} == {"one"}


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_close_answers_the_request_that_is_on_its_way() -> None:
    began = threading.Event()
    go_on = threading.Event()

    def wait(_: Request) -> Response:
        began.set()
        go_on.wait(10)
        return PlainTextResponse("late")

    listener = Listener(Starlette(routes=[Route("/", wait)]), host="127.0.0.1", port=0, drain_timeout_s=5)
    answers: list[str] = []
    url = f"http://127.0.0.1:{listener.port}/"
    asker = threading.Thread(target=lambda: answers.append(httpx2.get(url).text))
    asker.start()
    began.wait(10)
    closer = threading.Thread(target=listener.close)
    closer.start()
    eventually(lambda: not accepts(listener.port))
    assert not answers and closer.is_alive()
    go_on.set()
    asker.join()
    closer.join()
    assert answers == ["late"]


def test_a_port_that_another_program_listens_on_is_refused_by_name() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"127.0.0.1:{port} is taken"):
            check_port("127.0.0.1", port)


def test_another_service_on_a_shared_port_is_refused_too(listener: Listener) -> None:
    with pytest.raises(PortTaken):
        check_port("127.0.0.1", listener.port)


def test_a_free_port_is_free() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    check_port("127.0.0.1", port)


ORPHAN = """
import socket, sys
with socket.socket() as orphan:
    orphan.bind(("127.0.0.1", 0))
    orphan.listen()
    print(orphan.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(("title", "expected"), [("ray::ServeReplica:lifelong:replica", "waits"), ("nginx", "refuses")])
def test_the_port_of_an_orphan_is_waited_for_and_that_of_a_stranger_is_not(title: str, expected: str) -> None:
    """B7: the next `serve` ended with 78, because the replica of a killed `serve` still listened."""
    argv = [title, "-c", ORPHAN]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, executable=sys.executable, stdin=pipe, stdout=pipe, text=True) as orphan:
        assert orphan.stdin is not None and orphan.stdout is not None
        port = int(orphan.stdout.readline())
        if expected == "waits":
            ending = threading.Timer(0.3, orphan.stdin.close)  # it is waited for by then
            ending.start()
            await_port("127.0.0.1", port, threading.Event())
            ending.join()
            assert orphan.wait(5) == 0
        else:
            with pytest.raises(PortTaken):
                await_port("127.0.0.1", port, threading.Event())
        orphan.kill()


def replica_with(answers: list[int]) -> Starlette:
    """Returns a replica that gives these statuses in turn when it is asked whether it has weights."""

    async def ready(_: Request) -> Response:
        return PlainTextResponse("", answers.pop(0))

    return Starlette(routes=[Route("/v1/health/ready", ready)])


def test_a_replica_without_weights_leaves_the_port_to_one_that_has_them() -> None:
    """With the store wiped, a replica that came back refused each second request, and the other one had weights."""
    answers = [200, 200, 503, 200]
    other = Listener(replica_with(answers), host="127.0.0.1", port=0, drain_timeout_s=2)
    try:
        yield_to_others("0.0.0.0", other.port, lambda: False, timeout_s=60)
        assert answers == [200], "it listens when the other one cannot answer either"
        yield_to_others("127.0.0.1", other.port, lambda: True, timeout_s=60)
        assert answers == [200], "who has weights asks nobody"
    finally:
        other.close()
    yield_to_others("127.0.0.1", other.port, lambda: False, timeout_s=60)  # nobody listens
