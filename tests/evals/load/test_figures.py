"""The figures of a run, computed from its records."""

from evals.load.figures import compute_figures
from evals.load.ledger import Ledger
from evals.load.score import Audit
from evals.load.watcher import ServiceSnapshot
from evals.streams.stream import StreamItem
from tests.evals.load.test_ledger import answer
from wire.records import Arm, Feedback, RolloutPlan

PLAN = RolloutPlan(
    revision=2,
    salt="s",
    arms=(Arm(name="stable", version=1, share=0.75), Arm(name="candidate", version=2, share=0.25)),
)


def seen() -> Ledger:
    """Four training events, of which the stable arm named one rightly and the candidate another, and two test items."""
    ledger = Ledger("run")
    for number, (arm, version, label) in enumerate(
        [("stable", 1, "a"), ("stable", 1, "b"), ("candidate", 2, "a"), ("stable", 1, None)]
    ):
        event_id = ledger.record_event(StreamItem("", "a"), stage=0, time_ms=1_000 * number)
        given = answer(event_id, label, version=version, arm=arm, time_ms=1_000 * number + 40)
        ledger.record_answer(given, read_ms=1_000 * number + 50)
    for number, label in enumerate(("a", "b")):
        event_id = ledger.record_event(StreamItem("", "a"), stage=0, round=0, time_ms=9_000)
        ledger.record_answer(answer(event_id, label, time_ms=9_010), read_ms=9_100 + number)
    return ledger


def test_arms_rounds_and_audit_are_counted() -> None:
    snapshot = ServiceSnapshot(
        plan=PLAN, replaced=2, swaps=4, published=3, read_ms={1: 10, 2: 1_990}, durable_ms=(7.0,)
    )
    found = compute_figures(
        seen(), snapshot, Audit(found=5, lost=1, duplicates=2), dead_letters=3, restarts=1, prequential=None
    )
    assert (found.events, found.answers, found.lost, found.duplicates, found.dead_letters) == (6, 5, 1, 2, 3)
    assert (found.accuracy_first_seen, found.accuracy_final, found.accuracy_by_stage) == (50.0, 50.0, ((50.0,),))
    assert found.arms["stable"] == {"version": 1, "answers": 3, "accuracy": 33.33}
    assert found.arms["candidate"] == {"version": 2, "answers": 1, "accuracy": 100.0}
    assert (found.restarts, found.swaps, found.versions_published) == (3, 4, 3)
    assert found.latency_ms["p50"] == 50
    assert found.publish_ms == {"p50": 30.0, "p95": 50.0}
    assert found.durable_ms["p99"] == 7.0
    assert found.accuracy_by_kind == {}


def test_the_first_five_seconds_have_their_own_latency() -> None:
    ledger = Ledger("run")
    for second, latency_ms in ((0, 900), (4, 300), (5, 5_000)):
        event_id = ledger.record_event(StreamItem("", "a"), stage=0, time_ms=7_000 + 1_000 * second)
        ledger.record_answer(answer(event_id, "a"), read_ms=7_000 + 1_000 * second + latency_ms)
    found = compute_figures(ledger, ServiceSnapshot(), Audit(3, 0, 0), dead_letters=0, restarts=0, prequential=None)
    assert (found.latency_ms["first_p99"], found.latency_ms["p99"]) == (900, 5_000)


def test_the_accuracy_of_the_last_test_is_computed_by_kind() -> None:
    ledger = Ledger("run")
    for round, kind, label in ((0, "made", "b"), (1, "made", "a"), (1, "written", "a"), (1, "written", "b")):
        event_id = ledger.record_event(StreamItem("", "a", kind), stage=0, round=round, time_ms=9_000)
        ledger.record_answer(answer(event_id, label), read_ms=9_100)
    ledger.record_event(StreamItem("", "a", "written"), stage=0, time_ms=9_000)
    found = compute_figures(ledger, ServiceSnapshot(), Audit(4, 0, 0), dead_letters=0, restarts=0, prequential=None)
    assert list(found.accuracy_by_kind.items()) == [("written", 50.0), ("made", 100.0)]


def test_a_label_is_live_with_the_first_answer_of_a_version_that_covers_it() -> None:
    ledger = seen()
    ledger.record_label(Feedback(event_id="run-0", label="a", time_ms=1_500), "feedback.v1/0", 6)
    snapshot = ServiceSnapshot(plan=PLAN, through={2: {"feedback.v1/0": 7}})
    live = compute_figures(
        ledger, snapshot, Audit(4, 0, 0), dead_letters=0, restarts=0, prequential=None
    ).label_to_live_s
    # The candidate's first answer came at 2,040 ms.
    assert live["p50"] == 0.54
    assert live["stable_p50"] is None
