"""A swap that follows the plan of a store, and what then answers."""

from model.packed import Inputs
from serving.config import PrecisionConfig
from serving.engine import Engine
from serving.weights.disk import FollowedPlan
from serving.weights.in_use import WeightsInUse
from serving.weights.loader import Loader
from serving.weights.swap import Swap
from tests.serving.versions import tokenizer
from wire.records import ReplicaReport
from wire.store import Store

AUTO = PrecisionConfig()


def make_swap(
    store: Store,
    engine: Engine,
    *,
    retry_s: float = 60.0,
    precision: PrecisionConfig = AUTO,
    task: str = "",
    weights: WeightsInUse | None = None,
    followed: FollowedPlan | None = None,
    inputs: Inputs | None = None,
) -> Swap:
    def report() -> ReplicaReport:
        live = engine.live_versions(task)
        return ReplicaReport(
            replica="r1",
            revision=live.plan.revision if live else 0,
            versions=live.plan.versions if live else (),
            time_ms=1,
        )

    return Swap(
        store,
        Loader(store, inputs or tokenizer(), precision=precision, probe_tolerance=0.05, weights=weights),
        engine,
        refusal_retry_s=retry_s,
        report_interval_s=0.05,
        report=report,
        followed=followed or FollowedPlan(task=task),
    )


def served(engine: Engine, task: str = "") -> tuple[int, ...]:
    """Returns the revision, and the versions of the arms."""
    live = engine.live_versions(task)
    assert live is not None
    return (live.plan.revision, *live.plan.versions)


def arms(engine: Engine) -> list[str]:
    assert engine.live is not None
    return [arm.name for arm in engine.live.plan.arms]
