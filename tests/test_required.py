"""Tests that a required need is not skipped."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.versions import ROOT
from tests.required import FILES, REQUIRE, missing, required, summed_up


def test_what_is_missing_skips_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRE, "redis")
    with pytest.raises(pytest.skip.Exception, match="needs kafka: no Kafka"):
        missing("kafka", "no Kafka")


@pytest.mark.parametrize("value", ["kafka", "redis,kafka", "all"])
def test_and_fails_it_where_it_is_required(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(REQUIRE, value)
    with pytest.raises(pytest.fail.Exception, match=r"no Kafka \(LIFELONG_REQUIRE names kafka\)"):
        missing("kafka", "no Kafka")


def test_a_name_that_no_test_asks_for_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="kafkaa"):
        required("kafkaa")


def test_only_data_may_be_missing_where_everything_is_installed() -> None:
    """`.ci/run` requires everything, and the data sets if any folder of data is there."""
    script = (ROOT / ".ci" / "run").read_text()
    values = re.findall(r"^ *required=(\S+)", script, re.MULTILINE)
    assert [required(value) for value in values] == [required("all"), required("all") - set(FILES)]


def test_no_test_skips_itself_in_another_way() -> None:
    """A skip by pytest's own means could not be required, and would not be counted by what it needs."""
    others = re.compile(r"importorskip|pytest\.mark\.skip|pytest\.skip\(|skipTest")
    files = [path for path in (ROOT / "tests").rglob("*.py") if path.name not in ("required.py", "test_required.py")]
    assert [path.relative_to(ROOT).as_posix() for path in files if others.search(path.read_text())] == []


def test_what_was_skipped_is_summed_up_by_need() -> None:
    assert summed_up(
        ["needs redis8: 6.2 has no ACL", "no GPU", "needs redis8: 6.2 has no ACL", "needs redis8: no"]
    ) == [
        "3 tests need redis8:",
        "    2 x 6.2 has no ACL",
        "    1 x no",
        "1 test needs what cannot be installed:",
        "    1 x no GPU",
    ]


SUITE = """
import pytest
from tests.required import imported, impossible, missing

def test_kafka() -> None: missing("kafka", "no Kafka")
def test_more_of_kafka() -> None: missing("kafka", "no Kafka")
def test_the_processor() -> None: impossible("no AMX")
def test_all_is_here() -> None: pass
"""


def test_what_is_left_out_is_not_required() -> None:
    assert required("installed,-redis8") == required("all") - set(FILES) - {"redis8"}


@pytest.mark.parametrize("in_processes", [[], ["-n", "1"]], ids=["one process", "xdist"])
def test_a_run_ends_with_what_was_skipped_for_the_lack_of_what(tmp_path: Path, in_processes: list[str]) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "tests.required", "-p", "no:cacheprovider", *in_processes]
    env = {**os.environ, "PYTHONPATH": str(ROOT), REQUIRE: ""}
    done = subprocess.run([*argv, str(tmp_path)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert (
        "2 tests need kafka:\n    2 x no Kafka\n1 test needs what cannot be installed:\n    1 x no AMX\n" in done.stdout
    )
