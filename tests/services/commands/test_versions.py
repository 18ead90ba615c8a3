"""The commands about versions and decisions, as they are typed, on a store with three versions and no controller."""

import json

import msgspec
import pytest

from rollout.config import RolloutConfig
from rollout.plans import begin, follow
from services.commands.versions import manifest_differences
from tests.services.command_line import lifelong
from tests.stores import SIGNING_KEY, build_manifest, publish, take_lease
from wire.config import StoreConfig
from wire.records import Evaluation, NameChanges
from wire.store import Store
from wire.timestamps import now_ms


@pytest.fixture
def there(store: Store, store_config: StoreConfig, tmp_path: object) -> dict[str, str]:
    """Publishes three versions, stable, candidate and newest; returns the environment in which they are found."""
    publish(store, take_lease(store), 3)
    plan = begin(1, salt="s", now_ms=now_ms()).plan
    store.plans.write(plan)
    for version in (2, 3):
        plan = follow(plan, version, RolloutConfig(), now_ms=now_ms()).plan
        store.plans.write(plan)
    return {
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
    }


def test_what_an_operator_does_is_in_the_history(there: dict[str, str]) -> None:
    commands = ("approve", "pause", "resume", "promote", "rollback", "pin 2", "unpin")
    for words in commands:
        done = lifelong("rollout", *words.split(), "--json", **there)
        assert done.returncode == 0, done.stderr
        plan = json.loads(done.stdout)
    assert plan["revision"] == 3 + len(commands)
    done = lifelong("rollout", "history", "--json", **there)
    decisions = json.loads(done.stdout)
    actions = ["approved", "paused", "resumed", "promoted", "rolled_back", "pinned", "unpinned"]
    assert [decision["action"] for decision in decisions] == actions[::-1]
    assert {decision["rule"] for decision in decisions} == {"operator"}
    lines = lifelong("rollout", "history", "--limit", "2", **there).stdout.splitlines()
    assert len(lines) == 2 and "unpinned by operator" in lines[0]


def test_micro_f1_and_absolute_errors_are_shown_beside_the_accuracy(there: dict[str, str], store: Store) -> None:
    of_sets = Evaluation(num_labels=50, accuracy=0.9, micro_f1=(0.91, 0.9))
    of_scores = Evaluation(num_labels=50, accuracy=0.9, absolute_error=(0.2125, 0.25))
    for number, evaluation in ((4, of_sets), (5, of_scores)):
        manifest = msgspec.structs.replace(build_manifest(store, number, epoch=0), evaluation=evaluation)
        store.versions.add(manifest, detail="measured")
    shown = lifelong("versions", "show", "4", **there).stdout
    assert "of 50 labels (parent 0.0%); micro-F1 0.910 (parent 0.900)" in shown
    assert "mean absolute error 0.2125 (parent 0.25)" in lifelong("versions", "show", "5", **there).stdout
    found = json.loads(lifelong("versions", "show", "5", "--json", **there).stdout)["evaluation"]
    assert found["absolute_error"] == [0.2125, 0.25] and "micro_f1" not in found


def test_versions_are_listed_shown_and_compared(there: dict[str, str], store: Store) -> None:
    listed = json.loads(lifelong("versions", "--json", **there).stdout)
    assert [entry["version"] for entry in listed["entries"]] == [3, 2, 1]
    shown = lifelong("versions", "show", "2", **there)
    assert shown.returncode == 0, shown.stderr
    assert "2 classes" in shown.stdout
    assert json.loads(lifelong("versions", "show", "2", "--json", **there).stdout)["version"] == 2
    done = lifelong("versions", "diff", "1", "3", "--json", **there)
    differences = json.loads(done.stdout)
    assert differences["tensors_changed"] == ["head.out"]
    assert differences["records"] == {"feedback.v1/0": 2}
    assert lifelong("versions", "show", "9", **there).returncode != 0


def test_a_version_with_another_encoder_is_shown_beside_the_reference(there: dict[str, str], store: Store) -> None:
    lease = take_lease(store)
    manifest = build_manifest(store, 4, epoch=lease.epoch, parent=3)
    changes = NameChanges(reference=1, held_wins=6, held_ties=40, held_losses=4)
    store.versions.publish(msgspec.structs.replace(manifest, name_changes=changes), lease)
    shown = lifelong("versions", "show", "4", **there)
    assert "right: 6 by this version only, 4 by version 1 only; 40 by both or neither" in shown.stdout


def test_classes_that_came_and_went_are_named(store: Store) -> None:
    before = build_manifest(store, 1, epoch=1)
    after = msgspec.structs.replace(before, version=2, labels=("yes", "maybe"), name_changes=NameChanges(reference=1))
    differences = manifest_differences(before, after)
    assert (differences["classes_added"], differences["classes_removed"]) == (["maybe"], ["no"])
    assert differences["tensors_changed"] == []
