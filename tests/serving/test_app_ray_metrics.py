"""What Ray is told: gauges as they are, counters by how much they have grown."""

import msgspec
import pytest

from serving.app import RayMetrics
from tests.wire.test_metrics_samples import REPLICA_REPORT
from wire import metrics


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, at import
def test_a_counter_grows_by_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve.metrics import Counter, Gauge

    told: list[tuple[str, float, dict[str, str]]] = []
    monkeypatch.setattr(Counter, "inc", lambda self, value, tags: told.append((self.info["name"], value, tags)))
    monkeypatch.setattr(Gauge, "set", lambda self, value, tags: told.append((self.info["name"], value, tags)))
    mirror = RayMetrics()
    metrics.set_report(REPLICA_REPORT)
    mirror.update()
    assert ("lifelong_answers_total", 5, {"arm": "stand-in", "precision": "int8"}) in told
    assert ("lifelong_plan_revision", 4, {}) in told
    told.clear()
    counts = {**REPLICA_REPORT.counts, "answers_by_stand-in_int8": 7}
    metrics.set_report(msgspec.structs.replace(REPLICA_REPORT, counts=counts))
    mirror.update()
    assert [each for each in told if each[0].endswith("_total")] == [
        ("lifelong_answers_total", 2, {"arm": "stand-in", "precision": "int8"})
    ]
