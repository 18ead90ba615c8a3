"""B7: tests that any program of the stack may be killed, at any time, repeatedly, while `up` goes on and answers."""

import os
from collections.abc import Iterator

import pytest

from tests.required import missing
from tests.services.http_client import Client, ask
from tests.services.stack_owner import UP, Owner, owning
from tests.waiting import eventually

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=["tansu", "kafka"])
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """Runs `lifelong up` with a broker of either kind."""
    environ = {}
    if request.param == "kafka":
        if not os.environ.get("KAFKA_HOME"):
            missing("kafka", "Apache Kafka: KAFKA_HOME is not set")
        environ["KAFKA_HOME"] = os.environ["KAFKA_HOME"]
    with owning(UP, tmp_path_factory.mktemp(request.param), **environ) as owner:
        yield owner


@pytest.mark.parametrize("name", ["redis", "broker", "learner", "rollout"])
def test_what_is_killed_twice_comes_back_and_every_request_is_answered_meanwhile(up: Owner, name: str) -> None:
    with Client(up.port) as client:
        killed = {up.kill(name), up.kill(name)}
        eventually(lambda: bool(set(up.pids(name)) - killed))
        eventually(up.learns, within_s=240.0)
    assert len(up.lines(f"{name} was killed (SIGKILL); it is started again in ")) >= 2
    assert (client.failed, client.asked > 20) == (0, True)
    assert up.process.poll() is None


@pytest.mark.parametrize(("name", "index"), [("serve", 0), ("guard", 0), ("guard", 1)])
def test_replicas_come_back_whoever_of_their_parents_is_killed_twice(up: Owner, name: str, index: int) -> None:
    """Kills the outer guard (0) or the inner one (1): the port must not stay taken (experiment 3)."""
    before = up.pids("serve")
    up.kill(name, index=index)
    up.kill(name, index=index)
    eventually(lambda: bool(up.pids("serve")) and not set(up.pids("serve")) & set(before))
    eventually(lambda: ask(up.port) is not None)
    eventually(up.learns, within_s=240.0)
    assert up.lines("serve was killed")
    assert not up.lines("is taken")
    assert up.process.poll() is None


def test_a_broker_that_has_lost_its_topics_gets_them_again(up: Owner) -> None:
    messages = up.lines("its topics were created again")
    assert bool(messages) is any("tansu" in line for line in up.said), up.said
