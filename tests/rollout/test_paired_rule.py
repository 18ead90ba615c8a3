"""The rules B and C as a table, and what guards them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.paired_rule import PairedComparison, PairedEvidence, TrafficSplit, decide, is_next_reference
from rollout.statistics import PairedTally
from wire.records import VersionHealth


def compared(wins: int, ties: int, losses: int) -> PairedComparison:
    tally = PairedTally(wins, ties, losses)
    return PairedComparison(labels=tally, settled=tally)


def by_sources(*sources: PairedTally) -> PairedComparison:
    """Returns a comparison by the labels of these sources, all of settled events."""
    labels = sum(sources, PairedTally())
    return PairedComparison(labels=labels, settled=labels, sources=sources)


EQUAL = compared(20, 1_960, 20)
BETTER = compared(60, 900, 10)
WORSE = compared(10, 900, 60)


@pytest.mark.parametrize(
    ("evidence", "action", "reason"),
    [
        pytest.param(PairedEvidence(), "hold", "too close to call", id="nothing is known"),
        pytest.param(PairedEvidence(stable=BETTER), "promote", "better than the stable", id="better"),
        pytest.param(
            PairedEvidence(stable=BETTER, audited=compared(2, 90, 20)),
            "hold",
            "labels were asked for",
            id="better by the labels that people like to give",
        ),
        pytest.param(PairedEvidence(stable=EQUAL, reference=EQUAL), "hold", "ramp is not over", id="not exposed"),
        pytest.param(
            PairedEvidence(stable=EQUAL, reference=EQUAL, is_ramp_over=True),
            "promote",
            "not worse by the margin",
            id="not worse",
        ),
        pytest.param(
            PairedEvidence(stable=replace(EQUAL, settled=PairedTally()), reference=EQUAL, is_ramp_over=True),
            "hold",
            "too close to call",
            id="most labels of its events are still to come",
        ),
        pytest.param(
            PairedEvidence(stable=EQUAL, reference=compared(10, 800, 30), is_ramp_over=True),
            "hold",
            "too close to call",
            id="creep: as good as the stable version, and perhaps worse than the reference",
        ),
        pytest.param(
            PairedEvidence(stable=EQUAL, reference=compared(10, 900, 120), is_ramp_over=True),
            "withdraw",
            "worse than the reference by more than 2%",
            id="creep: as good as the stable version, and worse than the reference",
        ),
        pytest.param(PairedEvidence(stable=WORSE), "withdraw", "worse than the stable", id="worse"),
        pytest.param(
            PairedEvidence(stable=BETTER, health=VersionHealth(version=2, answers=100, errors=4)),
            "withdraw",
            "its answers fail",
            id="better, and it fails",
        ),
        pytest.param(
            PairedEvidence(stable=BETTER, health=VersionHealth(version=2, timed=60, slow=55)),
            "withdraw",
            "its answers are slow",
            id="better, and slow",
        ),
        pytest.param(
            PairedEvidence(stable=BETTER, traffic=TrafficSplit(keys=(300, 700), shares=(0.2, 0.8))),
            "hold",
            "the routing is wrong",
            id="better, and the routing is wrong",
        ),
        pytest.param(
            PairedEvidence(stable=BETTER, class_groups=(PairedTally(60, 0, 0), PairedTally(0, 30, 15))),
            "hold",
            "worse on a group of classes",
            id="better, and worse on a group",
        ),
        pytest.param(
            PairedEvidence(
                stable=by_sources(PairedTally(100, 0, 0), PairedTally(60, 0, 0), *[PairedTally(0, 1, 1)] * 30)
            ),
            "hold",
            "worse by the sources",
            id="better by two sources, worse by the others",
        ),
        pytest.param(
            PairedEvidence(
                stable=by_sources(PairedTally(0, 0, 100), PairedTally(0, 0, 60), *[PairedTally(1, 1, 0)] * 30)
            ),
            "hold",
            "too close to call",
            id="worse by two sources, better by the others",
        ),
    ],
)
def test_decides(evidence: PairedEvidence, action: str, reason: str) -> None:
    ruling = decide(evidence)
    assert ruling.action == action, ruling
    assert reason in ruling.reason


@pytest.mark.parametrize(
    ("comparison", "is_next"),
    [(compared(60, 900, 10), False), (compared(60, 960, 10), True), (compared(20, 1_960, 20), False)],
)
def test_the_next_reference_was_better_on_many_labels(comparison: PairedComparison, is_next: bool) -> None:
    assert is_next_reference(comparison) == is_next


HONEST = (PairedTally(10, 180, 10), PairedTally(11, 180, 9))


@pytest.mark.parametrize("flood", [PairedTally(0, 0, 400), PairedTally(400, 0, 0), PairedTally(0, 4_000, 0)])
def test_a_source_that_floods_one_verdict_decides_nothing(flood: PairedTally) -> None:
    """Others see the versions alike, and have too few labels for a decision: it is not made for them."""
    stable = by_sources(flood, *HONEST)
    assert decide(PairedEvidence(stable=stable, reference=stable, is_ramp_over=True)).action == "hold"
    assert (
        decide(PairedEvidence(stable=by_sources(flood), reference=by_sources(flood), is_ramp_over=True)).action
        != "hold"
    )


COUNTS = st.tuples(st.integers(0, 200), st.integers(0, 2_000), st.integers(0, 200))


@given(COUNTS, st.booleans())
def test_more_right_answers_never_hurt_a_candidate(counts: tuple[int, int, int], is_ramp_over: bool) -> None:
    wins, ties, losses = counts
    order = ["withdraw", "hold", "promote"]
    ranks: list[int] = []
    for tally in (compared(wins, ties, losses + 1), compared(wins, ties + 1, losses), compared(wins + 1, ties, losses)):
        ruling = decide(PairedEvidence(stable=tally, reference=tally, is_ramp_over=is_ramp_over))
        ranks.append(order.index(ruling.action))
    assert ranks == sorted(ranks)
