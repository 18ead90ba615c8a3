import pytest

from learner.errors import DataError
from learner.extra import require


def test_what_is_missing_is_named_with_the_remedy() -> None:
    require("torch", extra="evals")
    with pytest.raises(DataError, match=r"no_such_package is not installed: pip install 'lifelong\[evals\]'"):
        require("no_such_package", extra="evals")
