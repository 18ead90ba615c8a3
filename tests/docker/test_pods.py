"""Every pod of docker/kubernetes starts as its manifest says, its probes pass, and together they answer.

    secrets env --> kustomize build --> pods --engine of this test--> processes --> probes, a question by the page

Kafka and Redis are the containers of compose.yaml, as in Kubernetes they are the user's. KubeRay is played by its two
commands: `ray start` in the head's and the worker's container, and the configuration that it sends to Ray Serve.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from services import keys
from tests.docker.engine import engine, our_image
from tests.docker.files import image_environment
from tests.docker.manifests import RAY_HEAD, RAY_WORKER, Manifests
from tests.docker.test_containers import START_S, Compose, wait_for
from tests.docker.test_files import built
from tests.waiting import eventually

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1_800)]

PODS = ("topics", "learner", "rollout", "head", "worker", "page")
OVERRIDES = {"LIFELONG_BUS__REPLICATION_FACTOR": "1"}
"""The test's Kafka has one broker."""

PUT = """
import urllib.request as u
request = u.Request("http://127.0.0.1:8265/api/serve/applications/", {body!r}, {headers!r}, method="PUT")
u.urlopen(request, timeout=60)
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Compose]:
    with engine(tmp_path) as started:
        yield Compose(started, ("kafka", "redis", *PODS), aliases={"worker": "replicas-serve-svc"})


def test_what_kubernetes_starts_answers(stack: Compose, tmp_path: Path) -> None:
    values, accounts = keys.secrets_environment("lifelong:")
    users = stack.engine.volume("redis-secrets") / keys.ACCOUNTS
    users.parent.mkdir(parents=True)
    users.write_text(keys.HEALTH_CHECK + accounts)
    wait_for(stack, ["redis", "kafka"])

    done = built(tmp_path / "base", dict(values))
    assert done.returncode == 0, done.stdout
    manifests = Manifests(done.stdout, OVERRIDES)
    image = our_image(image_environment())
    assert stack.engine.start(manifests.container("topics", image)).wait(START_S) == 0, stack.logs()
    for name in ("learner", "rollout", "page"):
        stack.engine.start(manifests.container(name, image))
    shell = replace(image, entrypoint=["bash", "-lc", "--"])
    for name, command in (("head", RAY_HEAD), ("worker", RAY_WORKER)):
        # KubeRay's command is run by a login shell, which sets PATH anew.
        with_path = f"export PATH=/opt/lifelong/bin:$PATH; {command}"
        stack.engine.start(replace(manifests.container(name, shell), argv=[with_path]))

    def passes(name: str, kind: str) -> bool:
        return stack.engine.execute(name, list(manifests.probe(name, kind))).returncode == 0

    for name in ("learner", "rollout", "page", "head"):
        eventually(partial(passes, name, "livenessProbe"), within_s=START_S)

    lines = [{"text": f"my {label} number {i}", "label": label} for label in ("delivery", "refund") for i in range(20)]
    history = stack.engine.volume("learner-state") / "history.jsonl"
    history.write_text("\n".join(map(json.dumps, lines)))
    done_import = stack.engine.execute("learner", ["lifelong", "import", "/var/lib/lifelong/history.jsonl"])
    assert done_import.returncode == 0, done_import.stdout + done_import.stderr

    config = manifests.serve_config()
    config["applications"][0]["args"]["serving"]["replicas"] = 1  # as many as the test has workers
    code = PUT.format(body=json.dumps(config).encode(), headers={"content-type": "application/json"})
    deployed = stack.engine.execute("head", ["python", "-c", code])
    assert deployed.returncode == 0, deployed.stderr + stack.logs()
    eventually(partial(passes, "worker", "readinessProbe"), within_s=START_S)

    def answers() -> bool:
        body = stack.ask("page", "http://localhost:8090/api/ask", {"text": "where is my refund"})
        return '"label":"refund"' in body

    eventually(answers, within_s=START_S)
