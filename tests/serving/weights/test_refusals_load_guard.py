"""A new encoder is loaded by one replica after the other, where there is memory, and not after it has killed twice."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serving.deaths import Deaths
from serving.errors import NotYet, VersionRefused
from serving.pipeline import NOTHING_NOTED
from serving.weights.refusals import TURN_S, LoadGuard, memory_left_bytes
from tests.serving.test_deaths import kill_amid
from tests.serving.versions import build_manifest
from wire.records import ReplicaReport

KEY = "an encoder"


def make_report(replica: str, *loaded: int) -> ReplicaReport:
    return ReplicaReport(
        replica=replica, revision=1, versions=loaded, time_ms=1, model_bytes={str(number): 1 for number in loaded}
    )


@dataclass
class Fleet:
    """The reports of all replicas, a clock, and how much memory there is."""

    reports: list[ReplicaReport] = field(default_factory=lambda: [make_report("b", 1), make_report("a", 1)])
    now_s: float = 0.0
    memory: int = 1 << 40

    def guard(self, replica: str, *, is_answering: bool = True, deaths: Deaths = NOTHING_NOTED) -> LoadGuard:
        return LoadGuard(
            replica,
            deaths,
            lambda: self.reports,
            lambda: is_answering,
            clock=lambda: self.now_s,
            memory_left=lambda: self.memory,
        )


def may_load(guard: LoadGuard, number: int = 2) -> bool:
    try:
        with guard.loading(build_manifest(number), KEY):
            return True
    except NotYet:
        return False


def test_one_replica_loads_a_new_encoder_first_and_the_others_when_it_has() -> None:
    """N16: all replicas loaded it at once, and one that kills took all of them down."""
    fleet = Fleet()
    first, second = fleet.guard("a"), fleet.guard("b")
    assert may_load(first) and not may_load(second)
    fleet.reports[1] = make_report("a", 1, 2)
    assert may_load(second)


def test_where_the_first_has_not_loaded_it_the_next_one_tries_after_its_turn() -> None:
    fleet = Fleet()
    third = fleet.guard("c")
    assert not may_load(third)
    fleet.now_s = 2 * TURN_S - 1
    assert not may_load(third)
    fleet.reports.pop()  # the report of one that has died has expired
    assert may_load(third)


def test_each_version_has_a_turn_of_its_own() -> None:
    fleet = Fleet()
    second = fleet.guard("b")
    assert not may_load(second, 2)
    fleet.now_s = TURN_S
    assert not may_load(second, 3)


def test_a_replica_that_answers_nothing_yet_waits_for_nobody() -> None:
    assert may_load(Fleet().guard("z", is_answering=False))


def test_an_encoder_that_has_killed_twice_is_refused(tmp_path: Path) -> None:
    digests: list[bytes] = []

    class Spy(Deaths):
        def is_refused(self, digest: bytes) -> bool:
            digests.append(digest)
            return super().is_refused(digest)

    assert may_load(Fleet().guard("a", deaths=Spy(tmp_path)))
    for _ in range(2):
        kill_amid(tmp_path, [], digests[0])
        Deaths(tmp_path).close()
    with (
        pytest.raises(VersionRefused) as refused,
        Fleet().guard("a", deaths=Deaths(tmp_path)).loading(build_manifest(2), KEY),
    ):
        pass
    assert refused.value.reason == "killed_while_loading"


def test_a_version_that_memory_has_no_room_for_is_refused() -> None:
    guard = Fleet(memory=build_manifest(2).num_bytes).guard("a")
    with pytest.raises(VersionRefused, match="MiB are free") as refused, guard.loading(build_manifest(2), KEY):
        pass
    assert refused.value.reason == "no_memory"


def test_the_memory_that_is_left_is_that_of_the_container(tmp_path: Path) -> None:
    assert memory_left_bytes(tmp_path) > 1 << 20
    for name, content in {"max": "5000", "current": "4000", "stat": "anon 1\ninactive_file 500\n"}.items():
        (tmp_path / f"memory.{name}").write_text(content)
    assert memory_left_bytes(tmp_path) == 1_500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_left_bytes(tmp_path) > 1 << 20
