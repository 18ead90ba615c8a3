"""What a newcomer tries first: twelve points, each by the commands that one types, most of them on one `lifelong up`.

Rejected: a test that calls functions (a newcomer has none), and a service for each point (half a minute each).
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
import yaml
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from services.local.children import free_port
from services.running import read_announcement
from services.versions import ROOT
from tests.clusters import ray_environment
from tests.docker.files import DOCKER
from tests.docker.test_files import alerts
from tests.flow.newcomer import TEXTS, Newcomer, answers, without_ours
from tests.services.command_line import lifelong
from tests.services.stack_owner import UP, owning
from tests.waiting import eventually, in_time
from wire.metrics import METRICS

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]

FIRST_ANSWER_S = 60.0
METRIC = re.compile(r"(?:lifelong|process)_\w+")

SILENT = {
    "Promises kept",
    "Answers and labels of each arm",
    "Time between the first and the last replica to swap",
}
"""Panels of a profile, of a candidate and of several replicas, of which there are none here."""

LONGEST_LINES = 12
"""Most lines of an error: one that a newcomer can read."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    ports = {"grpc": free_port(), "metrics": free_port(), "page": free_port()}
    environ = {
        "LIFELONG_SERVING__GRPC_PORT": str(ports["grpc"]),
        "LIFELONG_METRICS__PORT": str(ports["metrics"]),
        "LIFELONG_PAGE__PORT": str(ports["page"]),
    }
    folder = tmp_path_factory.mktemp("acceptance")
    history = folder / "history.jsonl"
    rows = [{"id": label, "text": text, "label": label} for label, text in TEXTS.items()]
    history.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with owning(UP, folder / "state", **environ) as owner:
        done = owner.ask("import", str(history), "--wait", "120")
        assert done.returncode == 0, done.stderr
        newcomer = Newcomer(owner, ports)
        with newcomer.http:
            yield newcomer


def test_01_the_demo_answers_within_a_minute_and_shows_a_page(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "services.cli", "demo", "--events", "400"]
    port = free_port()
    environ = without_ours() | {
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_PAGE__PORT": str(port),
        "LIFELONG_SERVING__HTTP_PORT": str(free_port()),
        "PYTHONUNBUFFERED": "1",
    }
    log = tmp_path / "demo.log"
    begun_s = time.monotonic()
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, env=environ) as demo:
        try:
            eventually(lambda: "first answer" in log.read_text() or demo.poll() is not None)
            assert time.monotonic() - begun_s < FIRST_ANSWER_S + 30, log.read_text()
            (first,) = re.findall(r"first answer ([\d.]+) s after the start", log.read_text())
            assert float(first) <= FIRST_ANSWER_S
            assert httpx2.get(f"http://127.0.0.1:{port}/", timeout=30).status_code == 200
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(120)


def test_02_every_panel_of_the_dashboards_has_data_without_a_click(service: Newcomer) -> None:
    told: set[str] = set()
    panels: list[dict[str, Any]] = []
    for path in (DOCKER / "grafana" / "dashboards").iterdir():
        panels += json.loads(path.read_text())["panels"]

    def silent() -> set[str]:
        for port in range(service.ports["metrics"], service.ports["metrics"] + 3):
            text = httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
            told.update(f"{name}_bucket" for name in re.findall(r"^# TYPE (\w+) histogram", text, re.MULTILINE))
            told.update(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
        return {each["title"] for each in panels if told.isdisjoint(METRIC.findall(json.dumps(each["targets"])))}

    for label, text in TEXTS.items():
        answer = service.http.post("/v1/predict", json={"text": text}).json()["answers"][0]
        sent = service.owner.ask("feedback", answer["event_id"], label, "--receipt", answer["receipt"])
        assert sent.returncode == 0, sent.stderr
    assert in_time(lambda: silent() <= SILENT, within_s=60), silent()
    sources = list((DOCKER / "grafana" / "provisioning").rglob("*.y*ml"))
    assert {"datasources", "dashboards"} <= {path.parent.name for path in sources}


def test_03_the_commands_of_ray_serve_work(service: Newcomer, tmp_path: Path) -> None:
    """`lifelong serve` wraps them; here nothing of ours is between. A second replica of the group answers by HTTP."""
    announced = read_announcement(service.owner.folder)
    assert announced is not None
    config = yaml.safe_load((DOCKER / "serve.yaml").read_text())
    port, dashboard = free_port(), free_port()
    config["http_options"] = {"host": "127.0.0.1", "port": port}
    config["applications"][0]["args"]["serving"]["replicas"] = 1
    config["applications"][0]["args"] |= {"bus": {"prefix": announced["bus.prefix"]}}
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    environ = without_ours() | {
        **ray_environment(),
        "PYTHONPATH": str(ROOT),
        "LIFELONG_SIGNING_KEY_FILE": str(service.owner.folder / "replica.keys"),
        "LIFELONG_STORE__URL": announced["store.url"],
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": announced["bus.bootstrap_servers"],
    }
    address = ("--address", f"http://127.0.0.1:{dashboard}")

    def run(*argv: str) -> str:
        done = subprocess.run([*argv], env=environ, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    names = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "ray-client-server-port", "port")
    ray = [*("start", "--head", "--num-cpus=2", "--block", "--disable-usage-stats"), f"--dashboard-port={dashboard}"]
    own = ["--min-worker-port=0", "--max-worker-port=0", *(f"--{name}={free_port()}" for name in names)]
    log = (tmp_path / "ray.log").open("wb")
    scripts = [sys.executable, "-m", "ray.scripts.scripts"]
    with ExitStack() as exits:
        exits.callback(log.close)
        head = subprocess.Popen([*scripts, *ray, *own], env=environ, stdout=log, stderr=log, start_new_session=True)
        exits.callback(head.wait)
        exits.callback(head.terminate)
        eventually(lambda: answers(f"http://127.0.0.1:{dashboard}/api/ray/version") or head.poll() is not None)
        serve = str(Path(sys.executable).parent / "serve")
        run(serve, "deploy", str(tmp_path / "serve.yaml"), *address)
        eventually(lambda: "status: RUNNING" in run(serve, "status", *address), within_s=300)
        answer = httpx2.post(f"http://127.0.0.1:{port}/v1/predict", json={"text": TEXTS["delivery"]}, timeout=60)
        assert answer.json()["answers"][0]["label"] == "delivery", answer.text


def test_04_standard_protocols_answer(service: Newcomer) -> None:
    assert service.http.get("/v2/health/ready").status_code == 200
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXTS["billing"]]}]}
    answer = service.http.post("/v2/models/lifelong/infer", json=body).json()
    assert "billing" in json.dumps(answer["outputs"])
    assert "/v1/predict" in service.http.get("/openapi.json").json()["paths"]
    assert service.http.get("/docs").status_code == 200
    with grpc.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert "inference.GRPCInferenceService" in services


def test_05_the_rollout_is_steered_and_rolls_back_within_a_second(service: Newcomer) -> None:
    status = service.json("rollout", "status")
    assert status["plan"]["arms"]
    assert service.json("rollout", "pause")["paused"]
    assert not service.json("rollout", "resume")["paused"]
    before = service.json("rollout", "status")["plan"]["revision"]
    asked_ms = time.time() * 1e3
    revision = service.json("rollout", "rollback")["revision"]
    assert revision > before

    def follows() -> bool:
        return all(each["revision"] >= revision for each in service.json("rollout", "status")["replicas"])

    eventually(follows, within_s=30)
    swapped = [each["swapped_ms"] for each in service.json("rollout", "status")["replicas"]]
    written = [each["time_ms"] for each in service.json("rollout", "history") if each["revision"] == revision]
    assert min(written) >= asked_ms - 1_000
    assert max(swapped) - min(written) <= 1_000


def test_06_doctor_checks_everything_and_says_how_to_mend_it(service: Newcomer) -> None:
    done = service.owner.ask("doctor", "--json")
    checks = json.loads(done.stdout)
    names = {check["name"] for check in checks}
    assert {"python", "encoder", "ray", "broker", "redis", "disk"} <= names, names
    assert all(check.get("fix") for check in checks if check["state"] != "ok"), checks


def test_07_settings_are_shown_checked_and_described(tmp_path: Path) -> None:
    file = tmp_path / "lifelong.toml"
    file.write_text("[bus]\npartitons = 8\n")
    wrong = lifelong("config", "check", "--config", str(file))
    assert wrong.returncode == 78 and "Did you mean bus.partitions" in wrong.stderr, wrong.stderr
    file.write_text("[bus]\npartitions = 8\n")
    assert lifelong("config", "check", "--config", str(file)).returncode == 0
    shown = lifelong("config", "show", "--sources", "--config", str(file)).stdout
    assert f"# set by: {file} bus.partitions\npartitions = 8" in shown, shown
    assert "bus" in json.loads(lifelong("config", "schema").stdout)["properties"]


def test_08_another_encoder_is_named_and_checked() -> None:
    done = lifelong("encoder", "check", "minilm-l6", "--json")
    assert done.returncode == 0, done.stderr
    missing = lifelong("encoder", "check", "no/such-encoder")
    assert missing.returncode in (2, 78)
    assert "no/such-encoder" in missing.stderr and len(missing.stderr.splitlines()) <= LONGEST_LINES


def test_09_metrics_are_documented_and_alerts_are_shipped() -> None:
    metrics = (ROOT / "docs" / "operate" / "metrics.md").read_text()
    assert all(name in metrics for name in METRICS)
    assert len(alerts()) == 10 and all(rule["annotations"] for rule in alerts())


def test_10_a_missing_topic_is_an_error_of_a_few_lines(service: Newcomer, tmp_path: Path) -> None:
    announced = read_announcement(service.owner.folder)
    assert announced is not None
    for command in (["serve"], ["learn"], ["rollout", "run"]):
        done = lifelong(
            *command,
            LIFELONG_STATE_DIR=str(tmp_path),
            LIFELONG_SIGNING_KEY_FILE=str(service.owner.folder / "signing.key"),
            LIFELONG_STORE__URL=announced["store.url"],
            LIFELONG_BUS__BOOTSTRAP_SERVERS=announced["bus.bootstrap_servers"],
            LIFELONG_BUS__PREFIX="nobody.made.these.",
            LIFELONG_INTERNAL='{"bus.topics_timeout_s": 0}',
        )
        assert done.returncode == 78, done.stderr
        assert "lifelong topics create" in done.stderr and "nobody.made.these." in done.stderr
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= LONGEST_LINES


def test_11_the_readme_says_what_was_measured_how_and_what_is_missed() -> None:
    readme = (ROOT / "README.md").read_text()
    measured = readme[readme.index("## Measured") :]
    assert "make bench" in measured and "docs/benchmarks.md" in measured
    assert all(word in measured for word in ("two cores", "Python 3", "torch", "Apache Kafka"))
    assert re.search(r"\d+ of \d+ goals are missed: \[[^]]*\]\(docs/benchmarks.md#missed-goals\)", measured)


def test_12_a_state_is_checked_for_an_upgrade(service: Newcomer) -> None:
    assert len(service.json("migrate", "--dry-run")["findings"]) >= 3
