"""The site builds without a warning, has the reference that is made of the code, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.versions import ROOT

ELSEWHERE = re.compile(r"""<(?:script|img|link rel="stylesheet"|iframe)[^>]*(?:src|href)="?(?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
        capture_output=True,
    )
    return folder


def test_every_page_is_there_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.parent.relative_to(site).as_posix(): path.read_text() for path in site.rglob("index.html")}
    written = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {name for name in written if name != "index"} <= pages.keys()
    assert not [name for name, text in pages.items() if ELSEWHERE.search(text)]


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("settings", "serving.replicas"),
        ("commands", "lifelong rollout rollback"),
        ("metrics", "lifelong_answers_total"),
        ("exit-codes", "NotRunning"),
        ("package", "from_message"),
    ],
)
def test_the_reference_is_that_of_the_code(site: Path, page: str, words: str) -> None:
    assert words in (site / "reference" / page / "index.html").read_text()
