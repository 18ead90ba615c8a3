"""`lifelong page`."""

import os
import subprocess
import sys

import httpx2
import pytest

from services.local.children import free_port
from tests.services.command_line import lifelong


@pytest.mark.live
def test_it_serves_the_page_of_a_service_elsewhere_until_it_is_stopped(there: dict[str, str]) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "services.cli", "page", "--set", f"page.port={port}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=os.environ | there) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"Page: http://127.0.0.1:{port}/")
        assert b"Try the model" in httpx2.get(f"http://127.0.0.1:{port}/").content
        process.terminate()
        assert process.wait(60) == 0


def test_no_port_is_no_page(there: dict[str, str]) -> None:
    done = lifelong("page", "--set", "page.port=0", **there)
    assert (done.returncode, "page.port is 0" in done.stderr) == (2, True)
