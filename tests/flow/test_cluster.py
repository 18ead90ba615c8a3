"""The service on several nodes: two of Ray, three of Kafka, and Redis with a replica and a Sentinel.

    events --> Kafka (3 nodes) --> a replica on each Ray node --> answers --> labels --> learner --> Redis --> replicas

One server of each kind is killed while events and labels come. Every event must be answered, and weights must go on
reaching both replicas. `pytest -m slow -s tests/flow/test_cluster.py` prints how far apart the replicas swap.
"""

import json
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import chain

import pytest

from tests.flow.cluster import Cluster, Traffic
from tests.waiting import eventually, suspend
from wire.errors import WireError

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1_800)]

START_S = 300.0
ANSWERED_S = 90.0
"""Longest time until everything that was sent is answered: a node that is killed is missed after some 15 s."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as exits:
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), exits)
        assert cluster.start("topics", "create", state="topics").wait(120) == 0
        for words, state in ((["learn"], "learner"), (["rollout", "run"], "rollout"), (["serve"], "serve")):
            cluster.start(*words, state=state)
        yield cluster


@pytest.fixture(scope="module")
def traffic(cluster: Cluster) -> Iterator[Traffic]:
    with Traffic(cluster.bus_config) as traffic:
        yield traffic


def calmly(holds: Callable[[], bool], *, within_s: float = START_S) -> None:
    """Waits until `holds` is true, and leaves the processors to the servers meanwhile."""

    def holds_after_a_pause() -> bool:
        time.sleep(0.2)
        return holds()

    eventually(holds_after_a_pause, within_s=within_s)


def serves_all(traffic: Traffic) -> bool:
    """Whether everything that was sent so far is answered."""
    waiting = traffic.unanswered()
    calmly(lambda: not waiting & traffic.unanswered(), within_s=ANSWERED_S)
    return True


def measure_skews(cluster: Cluster, num: int) -> list[float]:
    """Returns how many milliseconds lay between the swaps of the two replicas, for `num` plans."""
    swapped: dict[int, dict[str, int]] = {}

    def has_enough() -> bool:
        for report in cluster.reports():
            if report.swapped_ms:
                swapped.setdefault(report.revision, {}).setdefault(report.replica, report.swapped_ms)
        return sum(len(times) == 2 for times in swapped.values()) >= num

    calmly(has_enough)
    return [float(max(times.values()) - min(times.values())) for times in swapped.values() if len(times) == 2]


def test_replicas_of_two_nodes_answer_and_swap_together(cluster: Cluster, traffic: Traffic) -> None:
    calmly(lambda: sorted(cluster.replicas()) == [0, 1, 1])
    calmly(lambda: len(cluster.reports()) == 2 and traffic.newest() > 0)
    skews_ms = sorted(measure_skews(cluster, 60))
    figures = {
        "swaps": len(skews_ms),
        "p50_ms": statistics.median(skews_ms),
        "p99_ms": statistics.quantiles(skews_ms, n=100, method="inclusive")[98],
        "max_ms": skews_ms[-1],
    }
    print(f"skew between the replicas of two nodes: {json.dumps(figures)}")
    assert serves_all(traffic)


def test_a_node_of_ray_that_is_killed_loses_nothing_and_another_takes_its_place(
    cluster: Cluster, traffic: Traffic
) -> None:
    victim = next(node for node in cluster.workers if node.replicas)
    victim.kill()
    time.sleep(2)
    assert serves_all(traffic)
    calmly(lambda: cluster.replicas() == [1, 1])
    calmly(lambda: len(cluster.reports()) == 2)
    assert serves_all(traffic)


def test_a_node_of_kafka_that_is_killed_loses_nothing(cluster: Cluster, traffic: Traffic) -> None:
    victim = cluster.kafka[1]
    victim.process.kill()
    victim.process.wait()
    time.sleep(2)
    assert serves_all(traffic)
    victim.start_again()
    victim.await_up()
    assert serves_all(traffic)


def test_what_a_killed_redis_had_alone_is_published_again_on_the_next_master(
    cluster: Cluster, traffic: Traffic
) -> None:
    watched = cluster.redis
    replica = watched.servers[watched.replica]
    master = watched.servers[watched.master]
    suspend(replica.process.pid)
    before = cluster.store.versions.current()
    calmly(lambda: [max(report.versions) > before for report in cluster.reports()] == [True, True])
    lost = cluster.store.versions.current()
    master.process.kill()
    master.process.wait()
    os.kill(replica.process.pid, signal.SIGCONT)

    def follows_the_new_master() -> bool:
        with suppress(WireError):
            plan = cluster.store.plans.read()
            stored = set(cluster.store.versions.stored())
            reports = cluster.reports()
            served = set(chain.from_iterable(report.versions for report in reports))
            return plan is not None and len(reports) == 2 and max(plan.versions) > lost and served <= stored
        return False

    calmly(follows_the_new_master)
    assert traffic.newest() > before
    assert serves_all(traffic)
    master.start_again()
