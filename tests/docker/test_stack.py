"""The stack of compose.yaml without containers: every command line and environment is that of the file.

    compose.yaml, Dockerfile --addresses and folders of this test--> processes --> an event, a label, weights, metrics

Names of other containers become addresses of this machine, which alone may connect, and volumes folders; nothing else
is changed.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.local.kafka import kafka_home
from services.local.tether import free_port
from services.versions import ROOT
from tests.docker.files import compose, image_environment, instructions
from tests.required import missing
from tests.waiting import eventually

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1_800)]

KAFKA_VARIABLE = "KAFKA_"
PROCESSES = ("replicas", "learner", "rollout")
LABELS = ("delivery", "refund")
START_S = 600.0


class Stack:
    """The processes of the services, each started as its container would be."""

    def __init__(self, folder: Path, exits: ExitStack) -> None:
        self._folder = folder
        self._exits = exits
        self.ports = {name: free_port() for name in ("kafka", "controller", "redis", "http", "metrics")}
        self._services = compose()["services"]
        self._restarted: dict[str, subprocess.Popen[bytes]] = {}

    def here(self, name: str, text: str) -> str:
        """Returns a text of the service `name` with the addresses and folders of this machine."""
        at = {key: f"127.0.0.1:{port}" for key, port in self.ports.items()}
        replacements = {
            "PLAINTEXT://:9092": f"PLAINTEXT://{at['kafka']}",
            "CONTROLLER://:9093": f"CONTROLLER://{at['controller']}",
            "localhost:9093": at["controller"],
            "kafka:9092": at["kafka"],
            "redis:6379": at["redis"],
            "0.0.0.0": "127.0.0.1",
            "127.0.0.1:8000": at["http"],
            "127.0.0.1:9464": at["metrics"],
            "/var/lib/": f"{self._folder / name}/",
            "exec redis-server": f"exec redis-server --port {self.ports['redis']} --dir {self.folder(name)}",
        }
        for old, new in replacements.items():
            text = text.replace(old, new)
        return text

    def folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def environment(self, name: str) -> dict[str, str]:
        """Returns the environment of a service: that of its file, over that of our image."""
        service = self._services[name]
        image = image_environment() if service["image"].startswith("lifelong:") else {}
        own = {"LIFELONG_SERVING__HTTP_PORT": str(self.ports["http"])} if name == "replicas" else {}
        both = {**image, **service.get("environment", {}), **own}
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("LIFELONG_", KAFKA_VARIABLE))}
        found = {key: self.here(name, value) for key, value in both.items()}
        if image:
            found["LIFELONG_METRICS__PORT"] = str(self.ports["metrics"])
        return {**ours, **found, "PYTHONPATH": str(ROOT)}

    def argv(self, name: str) -> list[str]:
        """Returns the command line of a service: with our image's entry point where it is ours."""
        service = self._services[name]
        words = [self.here(name, word) for word in service["command"]]
        is_ours = service["image"].startswith("lifelong:")
        return [sys.executable, "-m", "services.cli", *words] if is_ours else words

    def start(self, name: str, argv: list[str] | None = None) -> "subprocess.Popen[bytes]":
        log = (self._folder / f"{name}.log").open("ab")
        self._exits.callback(log.close)
        process = subprocess.Popen(
            argv or self.argv(name),
            cwd=self.folder(name),
            env=self.environment(name),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._exits.callback(end, process)
        return process

    def run(self, name: str) -> None:
        """Starts a service, also when it has ended, as `restart: unless-stopped` says."""
        assert self._services[name]["restart"] == "unless-stopped"
        if name not in self._restarted or self._restarted[name].poll() is not None:
            self._restarted[name] = self.start(name)

    def is_healthy(self, name: str) -> bool:
        """Runs the health check of a service, or that of our image, as an engine would."""
        check = self._services[name].get("healthcheck", {}).get("test")
        if check is None:
            (arguments,) = [arguments for word, arguments in instructions() if word == "HEALTHCHECK"]
            check = ["CMD", *listed(arguments.partition("CMD ")[2])]
        words = [self.here(name, word) for word in check]
        port = ["-p", str(self.ports["redis"])]
        argv = ["sh", "-c", words[1].replace("redis-cli", " ".join(["redis-cli", *port]))]
        if words[0] == "CMD":
            argv = [sys.executable if word == "python" else word for word in words[1:]]
        done = subprocess.run(argv, env=self.environment(name), capture_output=True, timeout=60, check=False)
        return done.returncode == 0


def listed(text: str) -> list[str]:
    """Reads the list of words of an instruction, which is JSON."""
    import json

    words: list[str] = json.loads(text)
    return words


def end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def properties(environment: Mapping[str, str]) -> str:
    """Returns server.properties as the image of Kafka makes it of its environment."""
    lines = [
        f"{name.removeprefix(KAFKA_VARIABLE).lower().replace('_', '.')}={value}"
        for name, value in environment.items()
        if name.startswith(KAFKA_VARIABLE)
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    home = kafka_home()
    if home is None:
        missing("kafka", "Apache Kafka: KAFKA_HOME is not set")
    with ExitStack() as exits:
        stack = Stack(tmp_path, exits)
        file = stack.folder("kafka") / "server.properties"
        file.write_text(properties(stack.environment("kafka")))
        storage = [str(home / "bin" / "kafka-storage.sh"), "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", str(file)]
        subprocess.run(storage, check=True, capture_output=True)
        stack.start("kafka", [str(home / "bin" / "kafka-server-start.sh"), str(file)])
        stack.start("redis")
        eventually(lambda: stack.is_healthy("redis"), within_s=START_S)
        eventually(lambda: stack.start("topics").wait(60) == 0, within_s=START_S)
        yield stack


def scraped(stack: Stack) -> str:
    """Returns the metrics of all processes."""
    texts: list[str] = []
    for port in range(stack.ports["metrics"], stack.ports["metrics"] + 8):
        try:
            texts.append(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        except httpx.HTTPError:
            continue
    return "\n".join(texts)


def test_the_stack_answers_learns_and_tells_what_it_counts(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.ports['http']}/v1/predict"

    def answer(text: str) -> dict[str, Any]:
        try:
            reply = httpx.post(url, json={"text": text}, timeout=10)
        except httpx.HTTPError:
            return {}
        return dict(reply.json()["answers"][0]) if reply.status_code == 200 else {}

    history = stack.folder("client") / "history.jsonl"
    for label in LABELS:
        with history.open("a") as file:
            file.writelines(f'{{"text": "my {label} number {i}", "label": "{label}"}}\n' for i in range(20))
    environment = {**stack.environment("learner"), "LIFELONG_METRICS__PORT": "0"}
    words = [sys.executable, "-m", "services.cli", "import", str(history)]
    subprocess.run(words, env=environment, cwd=history.parent, check=True, capture_output=True)

    def holds() -> bool:
        for name in PROCESSES:
            stack.run(name)
        return answer("where is my refund").get("label") == "refund"

    eventually(holds, within_s=START_S)
    eventually(lambda: all(stack.is_healthy(name) for name in PROCESSES), within_s=START_S)
    wanted = ("lifelong_answers_total{", 'lifelong_labels_total{end="learnt"}', "lifelong_rollout_alarms")
    eventually(lambda: all(name in scraped(stack) for name in wanted), within_s=START_S)
