"""The decision, as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rollout.config import RolloutConfig
from services.rollout.evidence import Evidence, Tally
from services.rollout.rule import Decision, Hold, Promote, Withdraw, decide

CONFIG = RolloutConfig(min_labels=50, clear_labels=10, margin=0.02, doubt=2.0)


def outcome(decision: Decision) -> str:
    return type(decision).__name__.lower()


@pytest.mark.parametrize(
    ("stable", "candidate", "stable_share", "expected"),
    [
        pytest.param((0, 0), (0, 0), 0.8, "hold", id="nothing is known"),
        pytest.param((500, 450), (49, 45), 0.8, "hold", id="a label is missing"),
        pytest.param((49, 45), (500, 450), 0.8, "hold", id="a label is missing on the stable arm"),
        pytest.param((40, 2), (10, 6), 0.8, "promote", id="clearly better"),
        pytest.param((40, 2), (9, 9), 0.8, "hold", id="clearly better, but hardly any label"),
        pytest.param((9, 0), (40, 40), 0.8, "hold", id="clearly better than hardly any label"),
        pytest.param((40, 24), (10, 8), 0.8, "hold", id="better, and it may be chance"),
        pytest.param((40, 40), (49, 0), 0.8, "hold", id="much worse, but few labels"),
        pytest.param((0, 0), (50, 10), 0.0, "promote", id="the candidate has all the traffic"),
        pytest.param((9, 9), (50, 10), 0.0, "promote", id="the candidate has all the traffic by now"),
        pytest.param((200, 180), (50, 45), 0.8, "promote", id="equal"),
        pytest.param((200, 180), (50, 50), 0.8, "promote", id="better"),
        pytest.param((200, 180), (50, 44), 0.8, "promote", id="worse by exactly the margin"),
        pytest.param((200, 180), (50, 43), 0.8, "hold", id="worse, and it may be chance"),
        pytest.param((200, 180), (50, 30), 0.8, "withdraw", id="much worse"),
        pytest.param((8000, 7200), (2000, 1700), 0.8, "withdraw", id="five points worse, many labels"),
        pytest.param((50, 0), (50, 0), 0.8, "promote", id="both know nothing"),
        pytest.param((200, 200), (50, 0), 0.8, "withdraw", id="nothing right"),
    ],
)
def test_decides(stable: tuple[int, int], candidate: tuple[int, int], stable_share: float, expected: str) -> None:
    evidence = Evidence(Tally(*stable), Tally(*candidate), candidate_version=7, stable_share=stable_share)
    decision = decide(evidence, CONFIG)
    assert outcome(decision) == expected, decision.reason
    assert isinstance(decision, Hold) or decision.version == 7


@given(st.integers(1, 5_000), st.integers(1, 5_000), st.floats(0, 1), st.floats(0, 1))
def test_more_right_answers_never_hurt_a_candidate(stable: int, candidate: int, right: float, more: float) -> None:
    base = Tally(stable, round(stable * right))
    low, high = sorted((round(candidate * right), round(candidate * more)))
    order = [Withdraw, Hold, Promote]
    ranks = [
        order.index(type(decide(Evidence(base, Tally(candidate, correct), candidate_version=2), CONFIG)))
        for correct in (low, high)
    ]
    assert ranks == sorted(ranks)


def test_the_reason_says_what_was_seen() -> None:
    evidence = Evidence(Tally(200, 180), Tally(50, 45), candidate_version=7)
    assert decide(evidence, CONFIG).reason == "candidate 45/50 (90.0%), stable 180/200 (90.0%)"
