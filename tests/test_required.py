"""Tests that a required need is not skipped."""

import re

import pytest

from services.versions import ROOT
from tests.required import REQUIRE, missing, required


def test_what_is_missing_skips_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRE, "redis")
    with pytest.raises(pytest.skip.Exception, match="no Kafka"):
        missing("kafka", "no Kafka")


@pytest.mark.parametrize("value", ["kafka", "redis,kafka", "all"])
def test_and_fails_it_where_it_is_required(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(REQUIRE, value)
    with pytest.raises(pytest.fail.Exception, match=r"no Kafka \(LIFELONG_REQUIRE names kafka\)"):
        missing("kafka", "no Kafka")


def test_a_name_that_no_test_asks_for_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="kafkaa"):
        required("kafkaa")


def test_only_clinc150_may_be_missing_where_everything_is_installed() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    values = re.findall(r"export LIFELONG_REQUIRE=(\S+)", script)
    assert [required(value) for value in values] == [required("all"), required("all") - {"clinc150"}]
