"""Checks that a service gives no figures if one of its programs or replicas has ended."""

import os
from pathlib import Path

import pytest

from bench.harness.service import Service, reporting_replicas
from evals.results.row import NoResult
from services.local import children
from services.local.logfile import RotatingLog
from services.local.stack import Stack
from services.local.supervisor import Program
from services.settings import load
from tests.waiting import eventually
from wire.bus import Bus
from wire.records import ReplicaReport
from wire.store import Store

pytestmark = pytest.mark.live


def report(name: str) -> ReplicaReport:
    return ReplicaReport(replica=name, revision=1, versions=(1,), time_ms=0)


@pytest.fixture
def service(tmp_path: Path, store: Store) -> Service:
    """A service with one replica. Only its store runs."""
    settings = load(file=Path(os.devnull), environ={"LIFELONG_STATE_DIR": str(tmp_path)}).settings
    store.reports.write_replica(report("a"))
    return Service(settings, Stack(settings), Bus(settings.bus, "test"), store, (), reporting_replicas(store))


def test_a_replica_in_the_place_of_another_voids_the_figures(service: Service, store: Store) -> None:
    service.check()
    store.reports.write_replica(report("b"))
    with pytest.raises(NoResult, match="1 replicas were replaced by new ones"):
        service.check()


def test_a_program_that_was_started_again_voids_the_figures(service: Service, tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "toy.log")
    toy = Program(name="toy", start=lambda: children.start(["false"], log=log), log=log)
    service.stack._supervisor.tolerate()
    service.stack._supervisor.add(toy)
    try:
        eventually(lambda: service.stack.num_restarts == 1)
        with pytest.raises(NoResult, match="restarted 1 times"):
            service.check()
    finally:
        service.stack.close()
