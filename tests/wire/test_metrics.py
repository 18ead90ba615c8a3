"""Tests that the names, kinds and labels of metrics are frozen, and follow Prometheus's rules."""

from services.versions import ROOT
from wire.metrics import EVERY, LEARNER, METRICS, REPLICA, ROLLOUT

SNAPSHOT = ROOT / "tests/wire/metrics.txt"
DOCUMENT = ROOT / "docs" / "operate" / "metrics.md"


def frozen() -> str:
    """Returns all metrics, one on each line."""
    return "".join(
        f"{metric.name} {metric.kind} {','.join(metric.labels)}".rstrip() + "\n" for metric in METRICS.values()
    )


def table() -> str:
    """Returns the table of the document."""
    rows = ["| metric | labels | meaning |", "|---|---|---|"]
    for metric in METRICS.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {labels} | {metric.help} |")
    return "\n".join(rows)


def test_the_names_are_frozen() -> None:
    assert frozen() == SNAPSHOT.read_text(), (
        f"a released name stays; for a new one write the list by `python -m {__name__}`"
    )


def test_the_document_has_every_metric() -> None:
    assert table() in DOCUMENT.read_text()


def test_no_name_comes_twice_and_counters_end_in_total() -> None:
    assert len(METRICS) == len([*EVERY, *REPLICA, *LEARNER, *ROLLOUT])
    for metric in METRICS.values():
        assert metric.name.startswith("lifelong_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")


if __name__ == "__main__":
    SNAPSHOT.write_text(frozen())
    print(table())
