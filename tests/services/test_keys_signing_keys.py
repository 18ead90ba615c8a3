"""Tests the changes of a key file: each step accepts the signatures of the step before."""

from pathlib import Path

import pytest

from services.keys import (
    KeysUnfit,
    add_key,
    find_key,
    is_used,
    next_signer,
    read_keys,
    retire_key,
    rotate_to,
    write_keys,
)
from wire.errors import UnknownKey
from wire.keyring import KeyRing, Kind, new_key, new_ring, parse

BODY = b"{}"
SHARED = parse("a secret of an earlier release")


@pytest.mark.parametrize("before", [new_ring(), SHARED], ids=["pairs", "shared"])
def test_a_rotation_accepts_in_each_step_what_the_step_before_signed(before: KeyRing) -> None:
    old = before.keys[0]
    both = add_key(before, Kind.NEXT)
    new = rotate_to(both, next_signer(both))
    left = retire_key(new, old)
    assert (
        both.signer == old and new.signer == left.signer == next_signer(new) and new.signer.id == next_signer(both).id
    )
    for earlier, later in ((before, both), (both, new), (new, left)):
        for signer, reader in ((earlier, later), (later, earlier)):
            if (signer, reader) not in ((new, before), (both, left)):
                reader.for_replicas().verify(BODY, signer.sign(BODY, "it").encode(), "it")
    assert before.subject == both.subject == new.subject == left.subject
    assert {*before.receipts} <= {*both.receipts} == {*new.receipts} and new.receipts[0] in both.receipts
    with pytest.raises(UnknownKey):
        left.verify(BODY, before.sign(BODY, "it").encode(), "it")


def test_what_is_used_is_known() -> None:
    ring = add_key(new_ring(), Kind.RECEIPT)
    assert [is_used(ring, key) for key in ring.keys] == [True, True, True, False]
    assert is_used(SHARED, SHARED.keys[0])
    later = rotate_to(ring, ring.keys[-1])
    assert later.receipts[0] == ring.keys[-1].value and later.signer == ring.signer


def test_a_key_is_found_by_its_id_and_an_unknown_one_is_named() -> None:
    ring = new_ring()
    assert find_key(ring, ring.keys[1].id) == ring.keys[1]
    gone = retire_key(add_key(ring, Kind.NEXT), ring.keys[0])
    with pytest.raises(KeysUnfit, match=f"{ring.keys[0].id}: is not one of our keys"):
        find_key(gone, ring.keys[0].id)
    with pytest.raises(KeysUnfit, match="signing-keys new"):
        next_signer(SHARED)


def test_a_file_is_private_and_reads_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "below" / "keys"
    assert read_keys(path) is None
    ring = KeyRing(tuple(new_key(kind) for kind in Kind))
    write_keys(path, ring)
    assert read_keys(path) == ring and path.stat().st_mode & 0o777 == 0o600
    path.write_text("ed25519-secret:00")
    with pytest.raises(KeysUnfit, match="line 1, key 1: ed25519-secret needs 64"):
        read_keys(path)
