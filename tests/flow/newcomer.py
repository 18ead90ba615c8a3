"""A service as a newcomer has it after the first commands, and what the tests of the acceptance list ask it."""

import json
import os
from contextlib import suppress
from typing import Any

import httpx2

from tests.services.stack_owner import Owner

TEXTS = {"delivery": "where is my parcel", "billing": "I was charged twice", "account": "I cannot log in"}
"""A text of each class that the service has learnt."""


def answers(url: str) -> bool:
    with suppress(httpx2.HTTPError):
        httpx2.get(url, timeout=5)
        return True
    return False


def without_ours() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("LIFELONG_")}


class Newcomer:
    """A service that has learnt three classes, and where it is reached."""

    def __init__(self, owner: Owner, ports: dict[str, int]) -> None:
        self.owner = owner
        self.ports = ports
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{owner.port}", timeout=30)

    def json(self, *words: str) -> Any:
        """Returns what a command prints as JSON."""
        done = self.owner.ask(*words, "--json")
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)
