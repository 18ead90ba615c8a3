"""Tests that a running program follows its file of keys, and that a file with mistakes changes nothing."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from services.keys import add_key, next_signer, retire_key, rotate_to, write_keys
from wire.errors import UnknownKey
from wire.keyring import KeyRing, Kind, follow_file, new_ring, parse, read_ring
from wire.receipts import Receipts, Verdicts
from wire.records import Feedback

VERDICTS = Verdicts(arm="stable", version=1, names=())
BODY = b"{}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "signing.keys"
    write_keys(found, new_ring())
    return found


def at_once(path: Path) -> KeyRing:
    """Returns the keys of a program that checks the file at each use."""
    return follow_file(path, parse(path.read_text()), check_s=0.0)


def changed(path: Path, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
    ring = change(parse(path.read_text()))
    write_keys(path, ring)
    return ring


def test_a_running_program_signs_with_the_next_key_and_refuses_the_retired_one(path: Path, tmp_path: Path) -> None:
    learner = at_once(path)
    public = tmp_path / "replica.keys"
    write_keys(public, learner.for_replicas())
    replica = at_once(public)
    old = learner.sign(BODY, "it").encode()
    new = changed(path, lambda ring: add_key(ring, Kind.NEXT))
    write_keys(public, new.for_replicas())
    assert learner.sign(BODY, "it").encode().split(b":")[1] == old.split(b":")[1]
    new = changed(path, lambda ring: rotate_to(ring, next_signer(ring)))
    signature = learner.sign(BODY, "it").encode()
    assert signature.split(b":")[1] != old.split(b":")[1]
    assert replica.verify(BODY, signature, "it") and replica.verify(BODY, old, "it")
    first = next(key for key in new.keys if key.id == old.split(b":")[1].decode())
    write_keys(public, changed(path, lambda ring: retire_key(ring, first)).for_replicas())
    with pytest.raises(UnknownKey, match="retired"):
        replica.verify(BODY, old, "it")


def test_receipts_follow_their_secrets(path: Path) -> None:
    receipts = Receipts.following(at_once(path))
    old = receipts.of("e", time_ms=5, entity="e", verdicts=VERDICTS)
    ring = changed(path, lambda ring: add_key(ring, Kind.RECEIPT))
    changed(path, lambda ring: rotate_to(ring, ring.of(Kind.RECEIPT)[-1]))
    new = receipts.of("e", time_ms=5, entity="e", verdicts=VERDICTS)
    assert new != old
    assert new == Receipts(ring.receipts[-1]).of("e", time_ms=5, entity="e", verdicts=VERDICTS)
    for receipt in (old, new):
        label = Feedback(event_id="e", label="l", receipt=receipt)
        assert receipts.refusal(label, is_required=True, max_age_ms=1e9) == ""


@pytest.mark.parametrize("text", ["", "ed25519-secret:xy", "ed25519-public:" + 64 * "0"])
def test_a_file_with_mistakes_changes_nothing(path: Path, text: str) -> None:
    ring = at_once(path)
    before = ring.keys
    path.write_text(text)
    assert ring.keys is before
    path.unlink()
    assert ring.keys is before
    write_keys(path, new_ring())
    assert ring.keys != before


def test_a_program_that_signs_keeps_its_keys_if_the_new_ones_cannot_sign(path: Path) -> None:
    ring = at_once(path)
    write_keys(path, ring.for_replicas())
    assert ring.signer is not None


def test_a_copy_in_another_process_follows_the_file_too(path: Path) -> None:
    copy = pickle.loads(pickle.dumps(at_once(path)))  # noqa: S301, as Ray does it
    new = new_ring()
    write_keys(path, new)
    assert copy.keys == new.keys


def test_a_program_checks_the_file_at_intervals_and_not_at_each_use(path: Path) -> None:
    ring = follow_file(path, parse(path.read_text()), check_s=1_000.0)
    before = ring.keys
    write_keys(path, new_ring())
    assert ring.keys is before


def test_keys_are_given_by_a_text_or_a_file(path: Path) -> None:
    ring = parse(path.read_text())
    assert read_ring(ring.text, file="").keys == read_ring("", file=os.fspath(path)).keys == ring.keys
    assert read_ring("", file="").keys == ()
    with pytest.raises(ValueError, match="cannot be read as keys"):
        read_ring("", file=os.fspath(path.with_name("nothing")))
