import pytest

from evals.extra import require
from learner.errors import DataError


def test_what_is_missing_is_named_with_the_remedy() -> None:
    require("torch")
    with pytest.raises(DataError, match=r"no_such_package is not installed: pip install 'lifelong\[evals\]'"):
        require("no_such_package")
