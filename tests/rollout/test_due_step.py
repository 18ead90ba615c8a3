"""Which step of the plan is due, by labels alone: the order in which the questions are asked."""

from collections.abc import Mapping

import msgspec
import pytest

from rollout.due_step import DecisionInputs, due_step, objection
from rollout.judged_events import JudgedLabel
from rollout.tallies import Tallies
from tests.rollout.judging import CONFIG
from wire.receipts import Verdicts
from wire.records import CANDIDATE, NEWEST, STABLE, Arm, RolloutPlan, VersionHealth

PLAN = RolloutPlan(
    revision=5,
    salt="s",
    arms=(
        Arm(name=STABLE, version=4, share=0.625),
        Arm(name=CANDIDATE, version=6, share=0.25),
        Arm(name=NEWEST, version=9, share=0.125),
    ),
    previous=3,
    reference=2,
)

RIGHT = 1
WRONG = 0


def make_tallies(labels: int, names: Mapping[int, int], plan: RolloutPlan = PLAN) -> Tallies:
    """Returns what `labels` labels of events say that the stable version answered. `names`: what each version names."""
    tallies = Tallies()
    tallies.follow(plan)
    add(tallies, labels, names, plan)
    return tallies


def add(tallies: Tallies, labels: int, names: Mapping[int, int], plan: RolloutPlan = PLAN) -> None:
    verdicts = Verdicts(STABLE, plan.stable, tuple(names.items()))
    for _ in range(labels):
        tallies.add_label(JudgedLabel(verdicts=verdicts, name=RIGHT, source="desk", answer_ms=1_000), 1_000)


def due(
    tallies: Tallies, plan: RolloutPlan = PLAN, health: Mapping[int, VersionHealth] = {}, *, imported: int = 0
) -> RolloutPlan | None:
    """Returns the plan after the step that is due; None where none is."""
    inputs = DecisionInputs(
        plan=plan,
        tallies=tallies,
        health=health,
        config=CONFIG,
        now_ms=2_000,
        has_other_encoder=lambda one, other: False,
        is_imported=lambda version: version == imported,
    )
    step = due_step(inputs).step
    return None if step is None else step(plan).plan


def test_the_newest_version_goes_on_beside_a_withdrawn_import() -> None:
    tallies = make_tallies(600, {4: RIGHT, 6: WRONG, 9: WRONG})
    own, imported = (due(tallies, imported=number) for number in (0, 6))
    assert own is not None and own.versions == (4,)
    assert imported is not None and imported.versions == (4, 9) and imported.candidate == 0


@pytest.mark.parametrize(
    ("names", "versions"),
    [
        pytest.param({2: RIGHT, 4: WRONG, 6: WRONG, 9: WRONG}, (2,), id="the stable versions are worse"),
        pytest.param({4: RIGHT, 6: WRONG, 9: WRONG}, (4,), id="the candidate is worse, and what follows it"),
        pytest.param({4: RIGHT, 6: WRONG, 9: RIGHT}, (4, 9), id="the candidate is worse, and overtaken"),
        pytest.param({4: WRONG, 6: RIGHT, 9: RIGHT}, (6, 9), id="the candidate is better"),
        pytest.param({4: WRONG, 9: RIGHT}, (9,), id="the newest versions are better"),
    ],
)
def test_a_step_is_due_where_labels_say_so(names: Mapping[int, int], versions: tuple[int, ...]) -> None:
    assert due(make_tallies(4, names)) is None
    after = due(make_tallies(16, names))
    assert after is not None and after.versions == versions


@pytest.mark.parametrize("version", [6, 9])
@pytest.mark.parametrize("bad", [{"answers": 200, "errors": 4}, {"timed": 60, "slow": 55}])
def test_a_version_that_fails_or_is_slow_is_withdrawn(version: int, bad: Mapping[str, int]) -> None:
    names = {4: WRONG, 6: RIGHT, 9: RIGHT}
    after = due(make_tallies(3, names), health={version: VersionHealth(version=version, **bad)})
    assert after is not None and after.versions == (4,), after
    assert due(make_tallies(3, names), health={4: VersionHealth(version=4, **bad)}) is None, "nothing stands in for it"


def test_stable_versions_that_lost_less_than_the_margin_go_on() -> None:
    """Labels that a power cut took from the topics cost 0.4 points: going back set aside a fifth of what was learnt."""
    tallies = make_tallies(0, {})
    for number in range(44):
        add(tallies, 140, {2: RIGHT, 4: RIGHT})
        add(tallies, 1, {2: RIGHT, 4: WRONG})
        if number * 18 % 44 < 18:
            add(tallies, 1, {2: WRONG, 4: RIGHT})
    assert "worse than the reference" in objection(tallies)
    assert due(tallies) is None


def test_the_reference_moves_where_the_chain_was_better_on_many_labels() -> None:
    plan = msgspec.structs.replace(PLAN, arms=(Arm(name=STABLE, version=4, share=1.0),))
    assert due(make_tallies(999, {2: WRONG, 4: RIGHT}, plan), plan) is None
    after = due(make_tallies(1_000, {2: WRONG, 4: RIGHT}, plan), plan)
    assert after is not None and after.reference == 4


def test_an_approved_candidate_is_not_replaced() -> None:
    plan = msgspec.structs.replace(PLAN, approved=6)
    after = due(make_tallies(16, {4: WRONG, 6: WRONG, 9: RIGHT}, plan), plan)
    assert after is not None and after.stable == 9, "the newest versions are better than the stable one"


def test_what_speaks_against_promotions_at_a_publication() -> None:
    assert objection(make_tallies(8, {4: RIGHT, 9: RIGHT})) == ""
    assert "newest versions are worse" in objection(make_tallies(16, {4: RIGHT, 9: WRONG}))
    assert "worse than the reference" in objection(make_tallies(8, {2: RIGHT, 4: WRONG}))
