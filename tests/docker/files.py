"""Reads the files of docker/ as an engine would: what it would start, with which environment."""

import shlex
from typing import Any

import yaml

from services.versions import ROOT
from wire.keyring import new_ring

DOCKER = ROOT / "docker"
RING = new_ring()
SECRETS = {
    "LIFELONG_SIGNING_KEY": RING.text.replace("\n", ","),
    "LIFELONG_STORE__PASSWORD": "p" * 16,
    "REPLICA_KEYS": RING.for_replicas().text.replace("\n", ","),
    "REPLICA_STORE_PASSWORD": "r" * 16,
}
"""What secrets.env has, by the names that `lifelong secrets env` prints."""


def compose() -> dict[str, Any]:
    """Returns compose.yaml, which asks for no variable of the host."""
    text = (DOCKER / "compose.yaml").read_text()
    assert "$" not in text
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def services() -> dict[str, dict[str, Any]]:
    """Returns the services of compose.yaml that run our image."""
    return {name: each for name, each in compose()["services"].items() if each["image"].startswith("lifelong:")}


def instructions() -> list[tuple[str, str]]:
    """Returns the instructions of the Dockerfile, each with its arguments."""
    lines = [line for line in (DOCKER / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    words = [line.split(maxsplit=1) for line in joined.splitlines() if line]
    return [(word, rest.strip()) for word, rest in words]


def image_environment() -> dict[str, str]:
    """Returns our settings that the image has in its environment."""
    words: list[str] = []
    for instruction, arguments in instructions():
        if instruction == "ENV":
            words += shlex.split(arguments)
    variables = dict(word.split("=", 1) for word in words)
    return {name: value for name, value in variables.items() if name.startswith("LIFELONG_")}


def manifests(name: str) -> list[dict[str, Any]]:
    """Returns what is in a file of kubernetes/."""
    return [*yaml.safe_load_all((DOCKER / "kubernetes" / name).read_text())]
