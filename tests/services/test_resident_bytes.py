"""The memory of process trees."""

import os
import subprocess
import sys

from services.resident_bytes import resident_bytes


def test_a_tree_has_the_memory_of_its_children_and_a_process_that_is_gone_has_none() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    found = resident_bytes({"tests": os.getpid(), "gone": gone.pid})
    assert found["tests"] > 1 << 20
    assert found["gone"] == 0
