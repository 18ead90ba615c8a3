import pytest

from learner.errors import DataError
from learner.rounds.avalanche import find


@pytest.mark.parametrize(
    "name", ["avalanche.training.supervised:EWC", "avalanche.training.supervised.EWC(ewc_lambda=0.5)", "avalanche-ewc"]
)
def test_a_class_has_several_names(name: str) -> None:
    assert find(name).cls.__name__ == "EWC"


@pytest.mark.parametrize(
    "name, message",
    [
        ("avalanche.training.nowhere:Replay", "avalanche.training.nowhere:Replay does not import: No module named"),
        ("avalanche.training.supervised:Nothing", "does not import: module .* has no attribute 'Nothing'"),
        ("avalanche-nothing", "no strategy 'avalanche-nothing': there are .*avalanche-replay"),
        ("collections:Counter", "collections:Counter is no lifelong.Strategy, and neither a strategy nor a plugin"),
        ("json:dumps", "json:dumps is no lifelong.Strategy"),
        ("avalanche-ewc(1.0)", "Python literals with their names"),
        ("avalanche-ewc(ewc_lambda=print())", "Python literals with their names"),
        ("avalanche-ewc[a=1]", "is not an import path"),
        ("..x:Y", "is not an import path"),
        ("avalanche-ewc(a=1) + it()", "Python literals with their names"),
        ("avalanche-ewc(a=1) or it(b=2)", "Python literals with their names"),
    ],
)
def test_a_name_that_is_no_strategy_is_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find(name)
