"""Where a container engine is: `docker compose up --wait`, looked at by the service's own `doctor`."""

import shutil
import subprocess
import urllib.request

import pytest

from tests.docker.files import DOCKER
from tests.required import impossible

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]

COMPOSE = ["docker", "compose", "--project-name", "lifelong-test"]


def compose(*words: str) -> str:
    done = subprocess.run(
        [*COMPOSE, *words], cwd=DOCKER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-8_000:]
    return done.stdout


def test_compose_up_brings_a_service_that_doctor_finds_nothing_wrong_with() -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        impossible("no container engine runs here")
    try:
        compose("up", "--build", "--wait", "--detach")
        with urllib.request.urlopen("http://localhost:8090/") as page:
            assert b"<html" in page.read()
        compose("exec", "-T", "learner", "lifelong", "doctor")
    finally:
        compose("down", "--volumes")
