import re
import tomllib

import pytest

from learner.errors import DataError, require
from services.versions import ROOT
from tests.sources import ROOMS, files


def test_what_is_missing_is_named_with_the_remedy() -> None:
    require("torch", extra="evals")
    with pytest.raises(DataError, match=r"no_such_package is not installed: pip install 'lifelong\[evals\]'"):
        require("no_such_package", extra="evals")


def test_every_extra_that_somebody_is_told_to_install_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(path.read_text() for path in [*files(*ROOMS), *documents])
    named = set(re.findall(r'require\("\w+", extra="(\w+)"', text)) | set(re.findall(r"lifelong\[(\w+)\]", text))
    assert named <= set(project["optional-dependencies"])
    assert "avalanche" in named
