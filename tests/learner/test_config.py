"""The settings of the learner: what a strategy may be called, and rules between settings."""

import pytest
from pydantic import TypeAdapter, ValidationError

from learner.config import IMPORT_PATH, LearnerConfig, StrategyName, is_import_path

STRATEGY: TypeAdapter[str] = TypeAdapter(StrategyName)


@pytest.mark.parametrize("name", ["er", "der++", "avalanche-replay", "my.own:Strategy", "a.b.Plugin(alpha=1.0)"])
def test_a_strategy_is_one_of_ours_or_a_path(name: str) -> None:
    assert STRATEGY.validate_python(name) == name


@pytest.mark.parametrize("name", ["", "err", "er.ace", "my.own:", "a b:C"])
def test_a_misspelt_strategy_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(ValidationError, match="none of naive, er, er-ace"):
        STRATEGY.validate_python(name)


def test_a_path_has_its_arguments_apart() -> None:
    found = IMPORT_PATH.fullmatch("my.own:Strategy(rate=0.1, name='x')")
    assert found is not None
    assert (found["path"], found["arguments"]) == ("my.own:Strategy", "rate=0.1, name='x'")
    assert not is_import_path("der++")


def test_a_holdout_that_could_never_refuse_is_refused() -> None:
    with pytest.raises(ValueError, match="accuracy would never refuse"):
        LearnerConfig(holdout_samples=10, min_holdout=11)
