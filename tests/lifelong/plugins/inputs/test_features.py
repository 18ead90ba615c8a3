"""Valid and invalid features of an event."""

import pytest

from lifelong.plugins.inputs.features import FEATURES, MAX_FEATURE_BYTES
from wire.inputs import MAX_FEATURES, Features, find_problem, render
from wire.records import Event


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({f"x{place}": 0.0 for place in range(MAX_FEATURES + 1)}, "1025 values, at most 1024"),
        ({" ": 1.0}, "a name that is blank"),
        ({"n" * (MAX_FEATURE_BYTES + 1): 1.0}, "has 257 bytes"),
        ({"city": "\u00e9" * MAX_FEATURE_BYTES}, "longer ones are text"),
        ({"price": float("inf")}, "not finite: leave out what is not known"),
    ],
)
def test_invalid_features_are_refused_with_the_fix(values: Features, message: str) -> None:
    assert message in FEATURES.problem(values) == find_problem(values)


def test_an_event_without_a_text_is_rendered_by_its_features() -> None:
    assert render(Event(id="e", features={"price": 0.5, "region": "north"})) == "price 0.5, region north"
