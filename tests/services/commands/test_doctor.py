"""`lifelong doctor`."""

import json
from pathlib import Path

from tests.services.command_line import lifelong


def test_the_doctor_ends_with_78_and_says_what_to_do(tmp_path: Path) -> None:
    done = lifelong("doctor", "--json", LIFELONG_BUS__BOOTSTRAP_SERVERS="127.0.0.1:1", LIFELONG_STATE_DIR=str(tmp_path))
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert (done.returncode, checks["broker"]["state"]) == (78, "fail")
    assert "LIFELONG_BUS__BOOTSTRAP_SERVERS" in checks["broker"]["fix"]
