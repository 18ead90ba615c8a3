"""`lifelong signing-keys`: a rotation in three steps, each of which is refused while a program is not ready for it."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.services.command_line import lifelong
from tests.stores import build_manifest, take_lease
from tests.wire.store.test_reports import make_report
from wire.config import StoreConfig
from wire.errors import UnknownKey
from wire.keyring import Kind, parse
from wire.records import LearnerReport, RolloutPlan
from wire.store import Store

Call = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def call(file: Path, store_config: StoreConfig) -> Call:
    """Returns a function that runs `lifelong signing-keys ... --json`, and returns what it prints or says."""
    environ = {
        "LIFELONG_SIGNING_KEY_FILE": str(file),
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
    }

    def run(*words: str, code: int = 0) -> Any:
        done = lifelong("signing-keys", *words, *([] if words[0] == "public" else ["--json"]), **environ)
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout if words[0] == "public" else json.loads(done.stdout)

    return run


def uses(listed: Any) -> list[tuple[str, str]]:
    return [(row["kind"], row["use"]) for row in listed["keys"]]


def opened(config: StoreConfig, file: Path) -> Store:
    return Store(config, parse(file.read_text()))


def test_a_rotation_waits_for_every_program_and_leaves_nothing_unreadable(
    call: Call, file: Path, store_config: StoreConfig
) -> None:
    first = call("new")["keys"][0]["key"]
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_text()
    with closing(opened(store_config, file)) as learner:
        learner.versions.publish(build_manifest(learner, 1, epoch=1), take_lease(learner))
        learner.plans.write(RolloutPlan(revision=1, salt="", arms=()))
        second = call("new")["keys"][0]["key"]
        assert uses(call("list"))[:1] == [("ed25519-secret", "used")]
        learner.reports.write_replica(make_report("r1"))
        said = call("rotate", code=78)
        assert "replica r1: would refuse what" in said and second in said and "--force" in said
    with closing(Store(store_config, parse(call("public")))) as replica:
        replica.reports.write_replica(make_report("r1"))
        assert call("rotate")["records"] == 2
        again = call("rotate")
        assert (again["key"], again["use"], again["records"]) == (second, "used", 0)  # it signs anew, and turns nothing
        assert replica.versions.manifest(1).version == 1 and replica.plans.read() is not None
        with closing(Store(store_config, parse(before))) as late, pytest.raises(UnknownKey, match=second):
            late.versions.manifest(1)
        with closing(Store(store_config, parse(before))) as late:
            late.reports.write_learner(LearnerReport(learner="l1", state="learning", time_ms=1))
        assert "learner l1: signs with" in call("retire", first, code=78)
        with closing(opened(store_config, file)) as learner:
            learner.reports.write_learner(LearnerReport(learner="l1", state="learning", time_ms=1))
        assert "is in use" in call("retire", second, code=78)
        assert call("retire", first)["key"] == first
        assert ("ed25519-retired", "refused") in uses(call("list"))
        assert replica.versions.manifest(1).version == 1


def test_a_key_that_signed_what_is_stored_is_retired_only_by_force(
    call: Call, file: Path, store_config: StoreConfig
) -> None:
    first = call("new")["keys"][0]["key"]
    old = parse(file.read_text())
    call("new")
    assert call("rotate")["records"] == 0
    with closing(Store(store_config, old)) as stolen:
        stolen.versions.publish(build_manifest(stolen, 1, epoch=1), take_lease(stolen))
    assert "signed 1 stored records (manifest:1)" in call("retire", first, code=78)
    call("retire", first, "--force")
    refused = pytest.raises(UnknownKey, match=f"manifest:1 was signed with the key {first}, which is retired")
    with closing(opened(store_config, file)) as store, refused:
        store.versions.manifest(1)
    assert {row["kind"]: row["records"] for row in call("list")["keys"]}["none of ours"] == 1


def test_a_shared_secret_of_an_earlier_release_is_left_in_the_same_steps(
    call: Call, file: Path, store_config: StoreConfig
) -> None:
    file.write_text("a secret of an earlier release\n")
    old = parse("a secret of an earlier release")
    with closing(Store(store_config, old)) as learner:
        learner.versions.publish(build_manifest(learner, 1, epoch=1), take_lease(learner))
    call("new")
    ring = parse(file.read_text())
    assert ring.signer == old.signer and ring.receipts[0] == old.receipts[0] and ring.subject == old.subject
    assert call("rotate")["records"] == 1
    call("retire", old.keys[0].id)
    ring = parse(file.read_text())
    assert not ring.of(Kind.SHARED) and ring.subject == old.subject
    with closing(opened(store_config, file)) as store:
        assert store.versions.manifest(1).version == 1


def test_what_cannot_be_done_is_said(call: Call, file: Path, tmp_path: Path) -> None:
    assert "cannot be read" in call("list", code=78)
    done = lifelong("signing-keys", "list", "--file", str(file))
    assert done.returncode == 78 and "`lifelong signing-keys new` makes it" in done.stderr
    file.write_text("ed25519-sekret:" + 16 * "0" + "\n")
    assert "begins with no kind of key" in call("list", code=78)
    file.unlink()
    call("new")
    assert "0123: is not one of our keys" in call("retire", "0123", code=78)
    done = lifelong("signing-keys", "new", LIFELONG_SIGNING_KEY="k" * 20)
    assert done.returncode == 78 and "LIFELONG_SIGNING_KEY_FILE" in done.stderr
    away = {"LIFELONG_SIGNING_KEY_FILE": str(file), "LIFELONG_STATE_DIR": str(tmp_path)}
    receipt = json.loads(lifelong("signing-keys", "new", "--receipt", "--json", **away).stdout)["keys"][0]
    assert receipt["kind"] == "receipt-secret" and receipt["use"] == "accepted"
    done = lifelong("signing-keys", "retire", receipt["key"], **away)
    assert done.returncode == 78 and "no store answers" in done.stderr
    assert lifelong("signing-keys", "retire", receipt["key"], "--force", **away).returncode == 0
