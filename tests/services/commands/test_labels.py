"""Tests `lifelong labels` with a running learner: what is renamed, merged, retired and added, and its versions."""

import json
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from tests.learner.learner_processes import LearnerProcesses, exit_code, send, stop, wait_for
from tests.learner.streams import answer, feedback, stream
from tests.services.command_line import lifelong
from tests.stores import SIGNING_KEY
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.store import Store

pytestmark = [pytest.mark.live, pytest.mark.parametrize("broker", ["tansu"], indirect=True)]


@pytest.fixture
def environ(bus_config: BusConfig, store_config: StoreConfig, tmp_path: Path) -> dict[str, str]:
    return {
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": bus_config.bootstrap_servers,
        "LIFELONG_BUS__PREFIX": bus_config.prefix,
    }


def run_json(environ: dict[str, str], *words: str) -> Any:
    done = lifelong("labels", *words, "--json", **environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_labels_are_changed_while_the_learner_runs_and_its_versions_are_rebuilt(
    environ: dict[str, str],
    bus: Bus,
    store: Store,
    bus_config: BusConfig,
    store_config: StoreConfig,
    tmp_path: Path,
) -> None:
    children = LearnerProcesses(tmp_path, bus_config, store_config, trainable_layers=0)
    try:
        child = children.start()
        send(bus, stream(0, 80))
        wait_for(store, lambda report: report.counts.get("labels", 0) >= 80)
        assert stop(child) == 0
        assert run_json(environ, "rename", "refund", "money back", "--no-wait")["number"] == 1
        assert exit_code(children.start("after-journal")) == -SIGKILL  # before the version that knows it is sent
        child = children.start()
        send(bus, stream(80, 140))
        wait_for(store, lambda report: report.counts.get("labels_rename") == 1)
        merged = run_json(environ, "merge", "invoice", "password", "--into", "account")
        assert merged["samples"]["replay"] > 10 and merged["version"] > 0
        retired = run_json(environ, "retire", "delivery")
        manifest = store.versions.manifest(retired["version"])
        assert sorted(manifest.labels) == ["account", "money back", "opening hours"] and manifest.label_commands == 3
        send(bus, [answer(141), feedback(141, label="refund"), answer(142), feedback(142, label="delivery")])
        wait_for(store, lambda report: report.counts.get("refused_retired", 0) > 0)
        assert stop(child) == 0
    finally:
        children.close()
    shown = run_json(environ, "list")
    assert shown["renamed"] == {"refund": "money back", "invoice": "account", "password": "account"}
    assert (shown["retired"], [each["action"] for each in shown["commands"]]) == (
        ["delivery"],
        ["rename", "merge", "retire"],
    )
    written = lifelong("labels", "list", **environ)
    assert "renamed: refund -> money back" in written.stdout and "retired: delivery" in written.stdout
    audit = lifelong("audit", "--json", **environ)
    assert audit.returncode == 0, audit.stderr
    actions = [(each["action"], each["outcome"]) for each in json.loads(audit.stdout)["actions"]]
    assert actions[:2] == [("labels rename", "asked"), ("labels rename", "done")] and len(actions) == 6

    learner = {"num_features": 96, "label_capacity": 8, "trainable_layers": 0}
    settings = {f"LIFELONG_LEARNER__{name.upper()}": str(value) for name, value in learner.items()}
    constants = {"learner.min_holdout": 5, "learner.ridge": 1e-4, "learner.trial_labels": 0}
    settings |= {"LIFELONG_LEARNER__HOLDOUT_SHARE": "0.1", "LIFELONG_INTERNAL": json.dumps(constants)}
    settings |= {"LIFELONG_ENCODER": str(tmp_path / "encoder"), "LIFELONG_SERVING__MAX_TOKENS": "256"}
    done = lifelong("versions", "rebuild", "--json", **environ, **settings)
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout)["differing"] == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("rename", "refnud", "money"), "no class is called 'refnud'"),
        (("retire", "refund"), "no class is called 'refund'"),
        (("merge", "a", "--into", "a"), "no class is called 'a'"),
        (("add", " "), "a label has 1 to"),
    ],
)
def test_what_is_meant_by_nothing_is_refused(environ: dict[str, str], words: tuple[str, ...], problem: str) -> None:
    done = lifelong("labels", *words, **environ)
    assert (done.returncode, done.stdout) == (2, "") and problem in done.stderr


def test_a_new_label_waits_until_it_is_added(
    environ: dict[str, str],
    bus: Bus,
    store: Store,
    bus_config: BusConfig,
    store_config: StoreConfig,
    tmp_path: Path,
) -> None:
    labels = {"mode": "ask", "allow": ["refund", "delivery"]}
    children = LearnerProcesses(tmp_path, bus_config, store_config, trainable_layers=0, labels=labels)
    asks = {"LIFELONG_LABELS__MODE": "ask", "LIFELONG_LABELS__ALLOW": '["refund", "delivery"]', **environ}
    try:
        child = children.start()
        send(bus, stream(0, 50))
        wait_for(store, lambda report: report.counts.get("refused_new_label", 0) >= 30)
        wait_for(store, lambda report: report.counts.get("letters_waiting") == 0)
        waiting = run_json(asks, "list")["waiting"]
        assert {"password", "invoice", "opening hours"} <= set(waiting)
        added = run_json(asks, "add", "password")
        assert added["released"] == waiting["password"] and added["version"] > 0
        wait_for(store, lambda report: report.num_classes == 3)
        assert "is in the set already" in lifelong("labels", "add", "password", **asks).stderr
        late = lifelong("labels", "split", "refund", "--into", "chargeback", "--timeout", "30", **asks)
        assert late.returncode == 0 and "kept as 'refund'" in late.stdout, late.stderr
        assert stop(child) == 0
        gone = lifelong("labels", "retire", "refund", "--timeout", "1", **asks)
        assert (gone.returncode, gone.stdout) == (75, "") and "stays in the log" in gone.stderr
    finally:
        children.close()
