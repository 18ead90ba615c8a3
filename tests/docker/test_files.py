"""The files of docker/ are valid by the schemas of their readers, say what is missing, and keep to rules of images."""

import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.settings import Settings, environment_variable
from services.settings_docs import schemas
from tests.docker.files import DOCKER, SECRETS, compose, image_environment, instructions, manifests
from tests.docker.files import services as our_services
from tests.required import missing
from wire.metrics import METRICS

PROGRAMS = Path(sys.executable).parent
KUSTOMIZE = shutil.which("kustomize") or shutil.which("kustomize", path=DOCKER.parent / "build" / "testbed" / "bin")
PROMTOOL = shutil.which("promtool")


def run(*argv: str | Path, cwd: Path = DOCKER) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)


def checked(*argv: str | Path, cwd: Path = DOCKER) -> str:
    done = run(*argv, cwd=cwd)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_hadolint_finds_nothing() -> None:
    assert checked(PROGRAMS / "hadolint", "Dockerfile") == ""


def test_the_final_image_has_no_tools_and_no_rights() -> None:
    found = instructions()
    stages = [at for at, (word, _) in enumerate(found) if word == "FROM"]
    final = found[stages[-1] :]
    assert not [arguments for word, arguments in final if word == "RUN" and re.search(r"apt|pip", arguments)]
    assert ("USER", "10001:10001") in final
    assert [word for word, _ in final].count("HEALTHCHECK") == 1


def test_the_base_and_all_libraries_but_torch_are_pinned_by_digest() -> None:
    found = instructions()
    bases = {arguments.split()[0] for word, arguments in found if word == "FROM"}
    stages = {arguments.rpartition(" AS ")[2] for word, arguments in found if word == "FROM"}
    assert all("@sha256:" in base for base in bases - stages)
    installs = [arguments for word, arguments in found if word == "RUN" and "install --no-cache-dir" in arguments]
    (line,) = installs
    steps = [step for step in line.split("&&") if "pip install" in step]
    assert ["--require-hashes" in step for step in steps] == [False, True, False], "torch, the lock, our wheel"


def test_compose_keeps_to_its_specification() -> None:
    checked(PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def test_no_image_is_the_latest_and_ours_may_write_nowhere() -> None:
    found = compose()["services"]
    assert not [each["image"] for each in found.values() if not re.search(r":v?\d+\.\d+", each["image"])]
    for name, each in our_services().items():
        assert each["read_only"], name
    for name, each in found.items():
        assert each["cap_drop"] == ["ALL"] and each["mem_limit"], name
        assert all(port.startswith("127.0.0.1:") for port in each.get("ports", ())), name


def built(folder: Path, secrets: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if KUSTOMIZE is None:
        missing("kustomize", "kustomize is not installed: scripts/testbed.sh build/testbed")
    shutil.copytree(DOCKER / "kubernetes", folder)
    if secrets:
        (folder / "secrets.env").write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
    return run(KUSTOMIZE, "build", ".", cwd=folder)


def test_kubernetes_gets_valid_manifests(tmp_path: Path) -> None:
    done = built(tmp_path / "base", SECRETS)
    assert done.returncode == 0, done.stdout
    everything = tmp_path / "all.yaml"
    everything.write_text(done.stdout)
    said = checked(PROGRAMS / "kubernetes-validate", "--strict", everything)
    assert [line for line in said.splitlines() if "passed" not in line and "RayService" not in line] == []
    found = [*yaml.safe_load_all(done.stdout)]
    secret = next(each["metadata"]["name"] for each in found if each["kind"] == "Secret")
    (service,) = [each for each in found if each["kind"] == "RayService"]
    for pod in pods(service):
        (container,) = pod["containers"]
        assert container["image"] == "lifelong:0.1.0"
        keys = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each]
        assert {key["key"] for key in keys} == {"REPLICA_KEYS", "REPLICA_STORE_PASSWORD"}
        assert {key["name"] for key in keys} == {secret}
        assert not any(key.get("optional") for key in keys)


def pods(service: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the pods of a RayService."""
    cluster = service["spec"]["rayClusterConfig"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


@pytest.mark.parametrize("component", ["ingress", "monitoring", "autoscaling"])
def test_each_component_can_be_added(tmp_path: Path, component: str) -> None:
    base = tmp_path / "base"
    alone = built(base, SECRETS).stdout
    kustomization = base / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text() + f"components: [components/{component}]\n")
    done = run(KUSTOMIZE or "", "build", ".", cwd=base)
    assert done.returncode == 0, done.stdout
    assert done.stdout != alone
    everything = tmp_path / "all.yaml"
    everything.write_text(done.stdout)
    said = checked(PROGRAMS / "kubernetes-validate", "--strict", everything)
    own_kinds = ("RayService", "ServiceMonitor")
    assert [line for line in said.splitlines() if "passed" not in line and not any(k in line for k in own_kinds)] == []


def test_every_container_has_probes_that_the_image_can_run() -> None:
    """The image has Python, and no wget or curl; without probes KubeRay would add some that ask by wget."""
    (service,) = manifests("replicas.yaml")
    found = pods(service)
    for file in ("learner.yaml", "rollout.yaml", "page.yaml"):
        found.append(manifests(file)[0]["spec"]["template"]["spec"])
    for pod in found:
        (container,) = pod["containers"]
        assert "livenessProbe" in container
        for probe in (
            container["livenessProbe"],
            container.get("readinessProbe", {}),
            container.get("startupProbe", {}),
        ):
            command = probe.get("exec", {}).get("command", ["python"])
            assert command[0] == "python"
            if len(command) > 1:
                compile(command[2], "probe", "exec")


def test_kubernetes_is_not_given_anything_without_secrets(tmp_path: Path) -> None:
    done = built(tmp_path / "base", {})
    assert done.returncode != 0
    assert "secrets.env" in done.stdout


def test_kuberay_and_serve_deploy_the_same_application() -> None:
    (service,) = manifests("replicas.yaml")
    expected = yaml.safe_load((DOCKER / "serve.yaml").read_text())
    expected["applications"][0]["args"]["serving"]["max_replicas_per_node"] = 1
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == expected


@pytest.mark.filterwarnings("ignore")  # of Ray Serve's imports
def test_serve_accepts_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve.schema import ServeDeploySchema

    from serving.app import build

    (application,) = ServeDeploySchema.model_validate(yaml.safe_load((DOCKER / "serve.yaml").read_text())).applications
    with pytest.raises(ValueError, match=r"missing: bus\.bootstrap_servers, store\.url, LIFELONG_SIGNING_KEY"):
        build(application.args)
    monkeypatch.setenv("LIFELONG_SIGNING_KEY", SECRETS["REPLICA_KEYS"])
    monkeypatch.setenv("LIFELONG_STORE__URL", "redis://:p@redis:6379/0")
    monkeypatch.setenv("LIFELONG_BUS__BOOTSTRAP_SERVERS", "kafka:9092")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert build(application.args)._bound_deployment.num_replicas == 2


def test_kubernetes_runs_what_compose_runs() -> None:
    kinds = {each: each.removesuffix(".yaml") for each in ("topics.yaml", "learner.yaml", "rollout.yaml", "page.yaml")}
    for file, name in kinds.items():
        (container,) = manifests(file)[0]["spec"]["template"]["spec"]["containers"]
        assert container["args"] == our_services()[name]["command"]


def test_every_variable_is_a_setting() -> None:
    known = {environment_variable(name) for name in schemas(Settings)}
    named = set(image_environment())
    for file in [DOCKER / "compose.yaml", *(DOCKER / "kubernetes").glob("*.*")]:
        named |= set(re.findall(r"LIFELONG_[A-Z_]+", file.read_text()))
    assert {name.removesuffix("_FILE") for name in named} <= known


EXPRESSION = re.compile(r"lifelong_\w+")


def alerts() -> list[dict[str, Any]]:
    """Returns the rules of the alerts."""
    (group,) = yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def expressions() -> list[str]:
    """Returns the expressions of the alerts and of the dashboards."""
    found = [rule["expr"] for rule in alerts()]
    for path in sorted((DOCKER / "grafana" / "dashboards").iterdir()):
        for panel in yaml.safe_load(path.read_text())["panels"]:
            found += [target["expr"] for target in panel["targets"]]
    return found


def test_alerts_and_dashboards_ask_for_metrics_that_there_are() -> None:
    asked: set[str] = set()
    for expression in expressions():
        asked |= {name.removesuffix("_bucket") for name in EXPRESSION.findall(expression)}
        for labels in re.findall(r"by \(([\w, ]+)\)", expression):
            for name in METRICS.keys() & {*EXPRESSION.findall(expression)}:
                assert {*labels.split(", ")} <= {*METRICS[name].labels}, expression
    assert asked <= METRICS.keys()
    assert METRICS.keys() - asked <= {
        "lifelong_swaps_total",
        "lifelong_version",
        "lifelong_report_time_seconds",
        "lifelong_late_labels",
    }


def test_every_alert_fires_and_does_not_fire_without_cause() -> None:
    cases = yaml.safe_load((DOCKER / "prometheus" / "alerts_test.yml").read_text())["tests"]
    tests = [case["alert_rule_test"][0] for case in cases]
    outcomes = [(test["alertname"], bool(test["exp_alerts"])) for test in tests]
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == 10
    assert sorted(outcomes) == sorted([(name, True) for name in names] + [(name, False) for name in names])
    if PROMTOOL is None:
        missing("promtool", "promtool is not installed (Debian: apt install promtool)")
    checked(PROMTOOL, "test", "rules", "prometheus/alerts_test.yml")
    checked(PROMTOOL, "check", "config", "prometheus/prometheus.yml")
