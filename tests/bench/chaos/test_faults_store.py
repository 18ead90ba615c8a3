"""Checks the damaged blob where there is none."""

import subprocess
import sys

from pydantic import SecretStr

from bench.chaos.faults import DamagedBlob, Kill
from bench.chaos.scene import scene_settings
from services.settings import Settings, replaced


def no_store() -> Settings:
    return replaced(scene_settings(store__url="redis://127.0.0.1:1/0"), {"signing_key": SecretStr("k" * 32)})


def test_where_no_blob_is_found_nobody_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as replica:
        fault = DamagedBlob(no_store, Kill("replica", lambda: [replica.pid]), 0.5)
        assert fault.inject().startswith("none: ")
        assert (replica.poll(), fault.num_kills) == (None, 0)
        replica.kill()
