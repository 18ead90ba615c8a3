"""What a series may take over, and what is refused."""

import pytest
from pydantic import TypeAdapter, ValidationError

from serving.config import MAX_LOOKBACK, SeriesConfig

SETTINGS = TypeAdapter(SeriesConfig)


def test_a_variable_of_the_environment_has_one_number_or_a_list_in_json() -> None:
    read = SETTINGS.validate_python({"lags": "[1, 48]", "means": "24"})
    assert (read.lags, read.means, read.lookback) == ((1, 48), (24,), 48)
    assert SeriesConfig().lookback == 0


@pytest.mark.parametrize("lags", [[0], [MAX_LOOKBACK + 1], [1.5], ["a"], "[1", [1, 1]])
def test_a_lag_is_a_number_of_events_and_named_once(lags: object) -> None:
    with pytest.raises(ValidationError, match="lags"):
        SETTINGS.validate_python({"lags": lags})


def test_a_mean_is_named_once() -> None:
    with pytest.raises(ValueError, match=r"serving\.series\.means"):
        SeriesConfig(means=(48, 48))
