"""Runs the chaos bench in its short form: a dozen faults over both scenes, and nothing is lost.

The published rows come from `make bench ONLY=chaos`, with 100 kills over 100,000 events; the goals are the same. Only
times are wider here: these tests share their machine with others.
"""

import pytest

from bench.chaos.play import SceneOutcome
from bench.chaos.rows import SCENES, run_scene
from bench.chaos.size import SHORT
from bench.row import Skip
from tests.required import missing

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]

RECOVERY_S = 60.0


@pytest.fixture(scope="module", params=SCENES)
def outcome(request: pytest.FixtureRequest) -> SceneOutcome:
    try:
        return run_scene(request.param, SHORT)
    except Skip as why:
        missing("kafka" if "Kafka" in str(why) else "toxiproxy", str(why))


def test_every_event_is_answered_and_no_more_twice_than_were_in_flight(outcome: SceneOutcome) -> None:
    assert outcome.kills == SHORT.kills
    assert outcome.verdict.lost == ()
    assert len(outcome.verdict.twice) <= outcome.verdict.num_in_flight


def test_every_label_meets_one_end_and_is_learnt(outcome: SceneOutcome) -> None:
    assert outcome.verdict.unaccounted == {}
    assert outcome.verdict.learnt_share >= 0.999


def test_the_weights_are_those_of_a_learner_that_nobody_killed(outcome: SceneOutcome) -> None:
    assert outcome.not_the_same == ()


def test_it_recovers_by_itself(outcome: SceneOutcome) -> None:
    assert (outcome.stuck, outcome.ended_by_itself) == (0, 0)
    assert max(outcome.recoveries_s) <= RECOVERY_S


def test_with_two_replicas_no_request_fails(outcome: SceneOutcome) -> None:
    if outcome.scene == "up":
        pytest.skip("it has one replica")
    assert outcome.http_failures == {}
