"""A stage has settled when all labels are learnt and the rollout is over, or when no version follows."""

import pytest

from evals.load.ledger import Ledger
from evals.load.player import Callbacks, Settler, Timeouts, _Current
from evals.load.watcher import ServiceSnapshot, Watcher
from wire.records import Arm, ReplicaReport, RolloutPlan
from wire.store import Store

TIMEOUTS = Timeouts(judge_s=1.0, quiet_s=5.0)


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def settler(store: Store, lines: list[str]) -> Settler:
    callbacks = Callbacks(began_ms=0, now_ms=lambda: 0, say=lines.append, check=lambda: None)
    return Settler(Ledger("run"), Watcher(store), callbacks, TIMEOUTS, lambda: None, 0.01)


def snapshot(*, stable: int, followed: bool = True) -> ServiceSnapshot:
    plan = RolloutPlan(revision=3, salt="s", arms=(Arm(name="stable", version=stable, share=1.0),))
    report = ReplicaReport(replica="r", revision=3 if followed else 2, versions=(stable,), time_ms=0)
    return ServiceSnapshot(plan=plan, reports=(report,))


@pytest.mark.parametrize(
    ("stable", "followed", "is_all", "age_s", "expected"),
    [
        (7, True, True, 0.0, True),
        (7, False, True, 9.0, False),  # a replica does not follow yet
        (6, True, True, 0.5, False),  # it is still judged
        (6, True, True, 1.0, True),  # nobody judges it any more
        (7, True, False, 4.9, False),  # a version that has learnt more may come
        (7, True, False, 5.0, True),
    ],
)
def test_settling_is_over(
    settler: Settler, lines: list[str], stable: int, followed: bool, is_all: bool, age_s: float, expected: bool
) -> None:
    current = _Current(version=7, since_s=100.0)
    assert settler._is_over(snapshot(stable=stable, followed=followed), current, is_all, 100.0 + age_s) == expected
    assert ("it keeps its share" in "".join(lines)) == (expected and stable == 6)
