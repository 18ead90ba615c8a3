"""What of a plan can be served."""

from serving.live import servable
from tests.serving.weights import plan_of


def test_a_plan_whose_versions_are_all_there_is_served_as_it_is() -> None:
    plan = plan_of(1, 2)
    assert servable(plan, {1, 2, 3}) is plan


def test_the_share_of_a_missing_candidate_goes_to_the_stable_arm() -> None:
    served = servable(plan_of(1, 2, revision=9), {1})
    assert served is not None
    assert (served.versions, served.revision) == ((1,), 9)


def test_without_the_stable_version_nothing_is_served() -> None:
    assert servable(plan_of(1, 2), {2}) is None
