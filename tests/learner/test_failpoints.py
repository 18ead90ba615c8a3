import os
import signal
import subprocess
import sys

import pytest

from learner.failpoints import VARIABLE, failpoint


def test_a_misspelt_failpoint_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "after-poll,after-learn")
    with pytest.raises(ValueError, match="there are after-command, after-poll"):
        failpoint("after-poll")


def test_the_process_can_be_made_to_sleep() -> None:
    program = "from learner.failpoints import failpoint\nfailpoint('after-poll')\nfailpoint('after-poll')"
    child = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {VARIABLE: "after-poll:2:STOP"})
    assert os.waitid(os.P_PID, child.pid, os.WSTOPPED) is not None
    child.send_signal(signal.SIGCONT)
    assert child.wait(timeout=60) == 0


@pytest.mark.parametrize(("wanted", "passes"), [("after-poll", 1), ("after-poll:3", 3)])
def test_the_process_is_killed_at_the_wanted_pass(wanted: str, passes: int) -> None:
    program = (
        "from learner.failpoints import failpoint\n"
        "for number in range(1, 9):\n"
        "    failpoint('after-learn')\n"
        "    print(number, flush=True)\n"
        "    failpoint('after-poll')\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {VARIABLE: wanted}, capture_output=True, text=True
    )
    assert child.returncode == -signal.SIGKILL and len(child.stdout.split()) == passes
