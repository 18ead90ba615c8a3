"""B7: any program of the stack may be killed, at any time and any number of times; `up` lives, and answers."""

import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.services.owner import UP, Owner, eventually, owning

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=["tansu", "kafka"])
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """`lifelong up` with a broker of either kind."""
    environ = {}
    if request.param == "kafka":
        if not os.environ.get("KAFKA_HOME"):
            pytest.skip("Apache Kafka: KAFKA_HOME is not set")
        environ["KAFKA_HOME"] = os.environ["KAFKA_HOME"]
    with owning(UP, tmp_path_factory.mktemp(request.param), **environ) as owner:
        yield owner


def answers(up: Owner) -> bool:
    """Whether an event gets an answer over HTTP, now."""
    body = json.dumps({"text": "where is my parcel"}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{up.port}/v1/predict", body)
    try:
        with urllib.request.urlopen(request, timeout=10.0) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


class Client:
    """Asks all the time, and counts what was not answered."""

    def __init__(self, up: Owner) -> None:
        self._up = up
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.asked = 0
        self.failed = 0

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            self.asked += 1
            self.failed += not answers(self._up)


def learnt(up: Owner) -> int:
    """Labels that the learner has learnt, as it says itself; -1 while it says nothing."""
    done = up.ask("rollout", "status", "--json")
    report = json.loads(done.stdout)["learner"] if done.returncode == 0 else None
    return report["counts"].get("learnt", 0) if report else -1


def learns(up: Owner) -> bool:
    """Whether a label of a new answer is learnt."""
    before = learnt(up)
    done = up.ask("predict", "where is my parcel?", "--json")
    if before < 0 or done.returncode:
        return False
    (answer,) = json.loads(done.stdout)
    if up.ask("feedback", answer["event_id"], "delivery", "--receipt", answer["receipt"]).returncode:
        return False
    try:
        eventually(lambda: learnt(up) > before, within_s=15.0)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("name", ["redis", "broker", "learner", "rollout"])
def test_what_is_killed_twice_comes_back_and_every_request_is_answered_meanwhile(up: Owner, name: str) -> None:
    with Client(up) as client:
        killed = {up.kill(name), up.kill(name)}
        eventually(lambda: bool(set(up.pids(name)) - killed))
        eventually(lambda: learns(up), within_s=240.0)
    assert len(up.lines(f"{name} was killed (SIGKILL); it is started again in ")) >= 2
    assert (client.failed, client.asked > 20) == (0, True)
    assert up.process.poll() is None


@pytest.mark.parametrize(("name", "index"), [("serve", 0), ("guard", 0), ("guard", 1)])
def test_replicas_come_back_whoever_of_their_parents_is_killed_twice(up: Owner, name: str, index: int) -> None:
    """`guard` 0 and 1: the outer and the inner one. What they leave must not hold the port (experiment 3)."""
    before = up.pids("serve")
    up.kill(name, index=index)
    up.kill(name, index=index)
    eventually(lambda: bool(up.pids("serve")) and not set(up.pids("serve")) & set(before))
    eventually(lambda: answers(up))
    eventually(lambda: learns(up), within_s=240.0)
    assert up.lines("serve was killed")
    assert not up.lines("is taken")
    assert up.process.poll() is None


def test_a_broker_that_has_lost_its_topics_gets_them_again(up: Owner) -> None:
    said = up.lines("its topics were made anew")
    assert bool(said) is any("tansu" in line for line in up.said), up.said
