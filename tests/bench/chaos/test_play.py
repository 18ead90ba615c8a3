"""Runs the chaos bench in its short form: a dozen faults over both scenes, and nothing is lost.

The published rows come from `make bench ONLY=chaos`, with 60 kills and 20 power cuts over 60,000 events. The goals are
the same, except that time limits are longer here, because these tests share their machine with others.
"""

from dataclasses import replace
from itertools import chain

import pytest

from bench.chaos.play import SceneOutcome
from bench.chaos.rows import SCENES_BY_ARM, run_scene
from bench.chaos.size import SHORT
from bench.harness.texts import clinc150
from evals.results.row import Skip
from tests.required import impossible, missing

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]

RECOVERY_S = 60.0

FAULTS = {
    "up": ("kill learner", "full disk", "FLUSHALL", "damaged blob", "power cut all"),
    "apart": ("kill learner", "delay all and Kafka", "FLUSHALL", "restore of a backup", "power cut broker"),
}
"""Faults that must be among the injected ones. The seed of the short form was chosen to draw them."""


@pytest.fixture(scope="module", params=[(scene, arm) for arm in ("shipped", "durable") for scene in SCENES_BY_ARM[arm]])
def outcome(request: pytest.FixtureRequest) -> SceneOutcome:
    scene, arm = request.param
    try:
        return run_scene(scene, replace(SHORT, arm=arm))
    except Skip as why:
        missing("kafka" if "Kafka" in str(why) else "toxiproxy", str(why))


def test_all_required_faults_are_injected(outcome: SceneOutcome) -> None:
    for need, why in outcome.left_out.items():
        missing(need, why)
    assert outcome.kills >= SHORT.kills
    injected = ", ".join(outcome.faults)
    assert [name for name in FAULTS[outcome.scene] if name not in injected] == []


def test_its_texts_come_from_clinc150() -> None:
    try:
        clinc150()
    except Skip as why:
        missing("clinc150", str(why))


def test_every_event_is_answered_and_only_what_was_in_flight_is_answered_twice(outcome: SceneOutcome) -> None:
    assert outcome.verdict.lost == ()
    if outcome.arm == "durable":
        assert outcome.verdict.num_lost_with_tails == 0
    assert outcome.verdict.twice_elsewhere == ()


def test_every_label_has_one_outcome_and_is_learnt(outcome: SceneOutcome) -> None:
    assert outcome.verdict.unaccounted == {}
    assert outcome.verdict.learnt_share >= 0.999


def test_the_weights_are_those_of_a_learner_that_nobody_killed(outcome: SceneOutcome) -> None:
    assert outcome.not_the_same == ()


def test_it_recovers_by_itself(outcome: SceneOutcome) -> None:
    assert (outcome.stuck, outcome.ended_by_itself) == (0, 0)
    for recovery_s in chain.from_iterable(outcome.recoveries_s.values()):
        assert recovery_s is not None
        assert recovery_s <= RECOVERY_S


def test_an_answer_comes_from_the_version_that_it_names(outcome: SceneOutcome) -> None:
    assert outcome.attributed
    assert outcome.misattributed == ()


def test_no_client_sees_an_older_plan_and_no_attacker_is_believed(outcome: SceneOutcome) -> None:
    assert outcome.scene == "apart" or not outcome.revisions_back
    assert outcome.breaches == ()


def test_with_two_replicas_no_request_fails(outcome: SceneOutcome) -> None:
    if outcome.scene == "up":
        impossible("it has one replica")
    assert outcome.http_failures == {}
