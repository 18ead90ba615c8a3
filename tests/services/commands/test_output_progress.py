"""Tests what a command shows of its progress where standard error is no terminal."""

import pytest

from services.commands.output import EVERY_S, progress


def test_a_log_has_the_first_text_and_then_one_of_each_interval(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    with progress(clock=lambda: now_s) as say:
        say("step 1")
        say("step 2")
        now_s = EVERY_S
        say("step 3")
    shown = capsys.readouterr()
    assert shown.err.splitlines() == ["step 1", "step 3"]
    assert shown.out == ""
