"""The settings of the learner: what a strategy may be called, and rules between settings."""

from typing import Any

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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"deeper_layers": (2, 0)}, "first of learner.deeper_layers must be more than learner.trainable_layers"),
        ({"trainable_layers": 0, "deeper_layers": (2, 0)}, "which must be at least 1"),
        ({"deeper_layers": (4, 4)}, "second of learner.deeper_layers must be more than the first one"),
        ({"trainable_layers": 0, "deeper_layers": (0, 2)}, "which must be at least 1"),
        ({"deeper_layers": (0, 4), "drift_delta": 0.0}, "set learner.drift_delta above 0"),
    ],
)
def test_tiers_that_could_never_be_trained_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnerConfig(**settings)


def test_a_tier_that_is_not_set_trains_as_much_as_the_one_above() -> None:
    assert LearnerConfig().tiers == (2, 2, 2)
    assert LearnerConfig(deeper_layers=(3, 0)).tiers == (2, 3, 3)
    config = LearnerConfig(deeper_layers=(0, 4))
    assert (config.tiers, config.deepest_layers, config.deepest_setting) == ((2, 2, 4), 4, "learner.deeper_layers is 4")
    assert LearnerConfig(deeper_layers=(3, 0)).deepest_setting == "learner.deeper_layers is 3"


def test_a_holdout_that_could_never_refuse_is_refused() -> None:
    with pytest.raises(ValueError, match="accuracy would never refuse"):
        LearnerConfig(holdout_samples=10, min_holdout=11)


def test_a_larger_memory_has_more_bytes() -> None:
    memories = [LearnerConfig(replay_samples=num).replay_bytes for num in (0, 20_000, 100_000)]
    assert memories == [16 << 20, 16 << 20, 83_800_000]
