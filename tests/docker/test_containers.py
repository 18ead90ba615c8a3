"""Every container of compose.yaml starts as the file says, and together they answer, learn and show their page.

    compose.yaml, Dockerfile --engine of this test--> containers --> health checks, an event, a label, weights, metrics

User, capabilities, read-only root with its tmpfs, volumes, environment, memory and health checks are as in the files.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.local.kafka import kafka_home
from tests.docker.engine import Container, Engine, Image, engine, our_image
from tests.docker.files import compose, image_environment, instructions
from tests.required import missing
from tests.waiting import eventually

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

START_S = 300.0
CHECK_INTERVAL_S = 2.0
JOBS = ("secrets", "topics")
SERVICES = ("redis", "kafka", "replicas", "learner", "rollout", "page")
UNITS = {"m": 1 << 20, "mb": 1 << 20, "g": 1 << 30}
LABELS = ("delivery", "refund")
ASK = """
import urllib.request as u
print(u.urlopen(u.Request({url!r}, {body!r}, {headers!r}), timeout=9).read().decode())
"""


def num_bytes(text: str) -> int:
    """Reads a size of compose.

    >>> num_bytes("512m")
    536870912
    """
    digits = text.rstrip("bgm")
    return int(digits) * UNITS[text.removeprefix(digits)]


def kafka_image() -> Image:
    """What apache/kafka holds: its folder, a user, and a program that makes its settings of the environment."""
    home = kafka_home()
    if home is None:
        missing("kafka", "Apache Kafka: KAFKA_HOME is not set")
    owner = (1000, 1000)
    return Image(
        user=owner,
        programs={str(home.resolve()): "/opt/kafka"},
        folders={"/var/lib/kafka/data": owner, "/mnt/shared/config": owner, "/opt/logs": owner},
        environment={"LOG_DIR": "/opt/logs"},
        entrypoint=["sh", "-c", KAFKA_START],
    )


KAFKA_START = """
cd /mnt/shared/config
env | grep '^KAFKA_' | grep -v '^KAFKA_HEAP_OPTS' | sed 's/^KAFKA_//' | while IFS='=' read -r name value; do
    echo "$(echo "$name" | tr 'A-Z_' 'a-z.')=$value"
done > server.properties
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted -t MkU3OEVBNTcwNTJENDM2Qk -c server.properties
exec /opt/kafka/bin/kafka-server-start.sh server.properties
"""


class Compose:
    """The services of compose.yaml as containers of an engine."""

    def __init__(
        self, engine: Engine, names: Sequence[str] = (*JOBS, *SERVICES), *, aliases: Mapping[str, str] | None = None
    ) -> None:
        self.engine = engine
        self.services: dict[str, dict[str, Any]] = compose()["services"]
        ours = our_image(image_environment())
        redis = Image(user=(999, 1000), folders={"/data": (999, 1000)}, workdir="/data")
        self._images = {"kafka": kafka_image(), "redis": redis}
        self._ours = ours
        self._names = names
        engine.know(names, aliases or {})

    def container(self, name: str) -> Container:
        service = self.services[name]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        user = service.get("user")
        return Container(
            name=name,
            image=self._images.get(name, self._ours),
            argv=[str(word) for word in service.get("command", ())],
            environment=service.get("environment", {}),
            user=tuple(int(part) for part in user.split(":")) if user else None,  # type: ignore[arg-type]
            is_read_only=service.get("read_only", False),
            tmpfs=service.get("tmpfs", ()),
            shm_bytes=num_bytes(service.get("shm_size", "64m")),
            volumes=[parse_volume(text) for text in service.get("volumes", ())],
        )

    def run(self, name: str) -> None:
        """Runs a job to its end."""
        code = self.engine.start(self.container(name)).wait(START_S)
        assert code == 0, self.engine.log(name).read_text()

    def up(self, name: str) -> None:
        """Starts a service, also again when it has ended, as `restart: unless-stopped` says."""
        assert self.services[name]["restart"] == "unless-stopped"
        if not self.engine.is_running(name):
            self.engine.start(self.container(name))

    def is_healthy(self, name: str) -> bool:
        """Runs the health check of a service, or the image's, inside of its container."""
        check = self.services[name].get("healthcheck", {}).get("test")
        if check is None:
            (arguments,) = [arguments for word, arguments in instructions() if word == "HEALTHCHECK"]
            check = ["CMD", *json.loads(arguments.partition("CMD ")[2])]
        kind, *words = check
        argv = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        return self.engine.is_running(name) and self.engine.execute(name, argv).returncode == 0

    def ask(self, name: str, url: str, body: object = None) -> str:
        """Asks a URL from inside of a container; "" if nothing or an error was answered."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        code = ASK.format(url=url, body=data, headers=headers)
        done = self.engine.execute(name, ["python", "-c", code])
        return done.stdout if done.returncode == 0 else ""

    def logs(self) -> str:
        """The end of each log, for the message of a failure."""
        ends: list[str] = []
        for name in self._names:
            log = self.engine.log(name)
            if log.exists():
                ends.append(f"--- {name}\n" + log.read_text(errors="replace")[-2_000:])
        return "\n".join(ends)


def parse_volume(text: str) -> tuple[str, str, bool]:
    source, target, *mode = text.split(":")
    return source, target, mode == ["ro"]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Compose]:
    with engine(tmp_path) as started:
        yield Compose(started)


def wait_for(stack: Compose, names: Sequence[str]) -> None:
    """Waits until services are healthy, one after the other; whatever ends meanwhile is started again."""
    waiting = list(names)

    def are_healthy() -> bool:
        for name in names:
            stack.up(name)
        # Each check starts an interpreter: they come at an interval, as an engine's do.
        time.sleep(CHECK_INTERVAL_S)
        while waiting and stack.is_healthy(waiting[0]):
            waiting.pop(0)
        return not waiting

    try:
        eventually(are_healthy, within_s=START_S)
    except AssertionError:
        raise AssertionError(f"not healthy: {waiting}\n{stack.logs()}") from None


def test_what_compose_starts_answers_learns_and_shows_its_page(stack: Compose) -> None:
    stack.run("secrets")
    wait_for(stack, ["redis", "kafka"])
    stack.run("topics")
    wait_for(stack, ["learner"])
    history = stack.engine.volume("learner") / "history.jsonl"
    lines = [{"text": f"my {label} number {i}", "label": label} for label in LABELS for i in range(20)]
    history.write_text("\n".join(map(json.dumps, lines)))
    done = stack.engine.execute("learner", ["lifelong", "import", "/var/lib/lifelong/history.jsonl"])
    assert done.returncode == 0, done.stdout + done.stderr + stack.logs()

    wait_for(stack, SERVICES)

    # The page's own question goes to the replicas over the network of the containers.
    def answers() -> bool:
        body = stack.ask("page", "http://localhost:8090/api/ask", {"text": "where is my refund"})
        return '"label":"refund"' in body

    eventually(answers, within_s=START_S)
    page = stack.ask("page", "http://localhost:8090/")
    assert "<html" in page

    # Prometheus finds both replicas by the controller's list, and each tells its own counts.
    def listed() -> list[str]:
        body = stack.ask("rollout", "http://rollout:9464/targets")
        return list(json.loads(body)[0]["targets"]) if body else []

    eventually(lambda: len(listed()) == 2, within_s=START_S)
    for target in listed():
        assert "lifelong_queue_items" in stack.ask("rollout", f"http://{target}/metrics")
    assert 'lifelong_labels_total{end="learnt"}' in stack.ask("rollout", "http://learner:9464/metrics")

    for name in SERVICES:
        limit = num_bytes(stack.services[name]["mem_limit"])
        assert stack.engine.resident_bytes(name) < limit, name


def test_a_replica_s_account_may_not_write_weights_and_its_container_sees_no_signing_key(stack: Compose) -> None:
    stack.run("secrets")
    wait_for(stack, ["redis"])
    password = (stack.engine.volume("replica-secrets") / "store.password").read_text()
    cli = ["redis-cli", "--user", "replica", "--pass", password, "--no-auth-warning"]
    assert "NOPERM" in stack.engine.execute("redis", [*cli, "SET", "lifelong:current", "1"]).stdout
    assert "NOAUTH" not in stack.engine.execute("redis", [*cli, "GET", "lifelong:current"]).stdout
    assert "NOPERM" in stack.engine.execute("redis", ["redis-cli", "GET", "lifelong:current"]).stdout
    volumes = [parse_volume(text)[0] for text in stack.services["replicas"]["volumes"]]
    assert "service-secrets" not in volumes
