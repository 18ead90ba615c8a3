"""Tests the ring of keys: the first key signs, all are accepted, and each refusal has a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import BadSignature, CannotSign, UnknownKey
from wire.keyring import Key, KeyRing, Kind, new_key, new_ring, parse

BODY = b'{"a":1}'
OLD = new_ring()
SHARED = parse("a secret of an earlier release")


def rotated(ring: KeyRing) -> KeyRing:
    """Returns the ring with a new key before the others."""
    return KeyRing((new_key(Kind.SECRET), *ring.keys))


def test_a_replicas_ring_verifies_all_signatures_and_cannot_sign() -> None:
    replica = parse(OLD.for_replicas().text)
    replica.verify(BODY, OLD.sign(BODY, "it").encode(), "it")
    assert replica.receipts == OLD.receipts and not replica.of(Kind.SECRET, Kind.SUBJECT)
    for act in (lambda: replica.sign(BODY, "it"), lambda: replica.seal(BODY, "it"), lambda: replica.subject):
        with pytest.raises(CannotSign, match="LIFELONG_SIGNING_KEY_FILE"):
            act()


def test_while_keys_rotate_every_program_accepts_every_signature() -> None:
    accepted = KeyRing((*OLD.keys, rotated(OLD).keys[0].of_kind(Kind.PUBLIC)))
    new = rotated(OLD)
    both = KeyRing((*OLD.keys, new.keys[0].of_kind(Kind.PUBLIC)))
    for signer in (OLD, new):
        both.for_replicas().verify(BODY, signer.sign(BODY, "it").encode(), "it")
    assert accepted.signer == OLD.signer and new.signer != OLD.signer


def test_signatures_of_retired_and_foreign_keys_are_refused_with_the_key() -> None:
    signature = OLD.sign(BODY, "manifest 7").encode()
    identity = OLD.keys[0].id
    retired = KeyRing((*new_ring().keys, OLD.keys[0].of_kind(Kind.RETIRED)))
    with pytest.raises(UnknownKey, match=f"manifest 7 was signed with the key {identity}, which is retired"):
        retired.verify(BODY, signature, "manifest 7")
    with pytest.raises(UnknownKey, match=f"the key {identity}, which is not among ours.*signing-keys rotate"):
        new_ring().verify(BODY, signature, "manifest 7")
    with pytest.raises(UnknownKey, match="signed with a shared secret, and there is none among our keys"):
        OLD.verify(BODY, SHARED.sign(BODY, "manifest 7").encode(), "manifest 7")


def test_a_public_key_is_never_taken_for_a_secret() -> None:
    """Otherwise, anyone who knows the public key could use it as a shared secret (algorithm confusion)."""
    public = OLD.keys[0].public
    replica = OLD.for_replicas()
    for secret in (public, public.hex().encode()):
        with pytest.raises(BadSignature):
            replica.verify(BODY, Key(Kind.SHARED, secret).hmac(BODY, "it").encode(), "it")
        with pytest.raises(BadSignature):
            replica.open(BODY, Key(Kind.SHARED, secret).seal(BODY, "it").encode(), "it")


@given(st.binary(max_size=300))
def test_other_bytes_are_not_a_signature(signature: bytes) -> None:
    for ring in (OLD, SHARED, KeyRing((*SHARED.keys, *OLD.keys))):
        with pytest.raises(BadSignature):
            ring.verify(BODY, signature, "it")


@given(st.integers(0, 7 * 8 - 1), st.sampled_from([OLD, SHARED]))
def test_a_changed_bit_of_the_record_is_noticed(bit: int, ring: KeyRing) -> None:
    changed = bytearray(BODY)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadSignature, match="changed"):
        ring.verify(bytes(changed), ring.sign(BODY, "it").encode(), "it")
    with pytest.raises(BadSignature, match="changed"):
        ring.open(bytes(changed), ring.seal(BODY, "it").encode(), "it")


def test_a_shared_secret_is_replaced_without_refusals_and_subjects_keep_their_digests() -> None:
    subject = Key(Kind.SUBJECT, SHARED.subject)
    both = KeyRing((*SHARED.keys, new_key(Kind.SECRET), new_key(Kind.RECEIPT), subject))
    left = KeyRing((*both.keys[1:], *both.keys[:1]))
    assert both.signer == SHARED.signer and left.signer != SHARED.signer
    for ring in (both, left):
        both.for_replicas().verify(BODY, ring.sign(BODY, "it").encode(), "it")
        left.for_replicas().verify(BODY, ring.sign(BODY, "it").encode(), "it")
        left.open(BODY, ring.seal(BODY, "it").encode(), "it")
        assert ring.subject == SHARED.subject
    assert {*both.receipts} == {*left.receipts}


@pytest.mark.parametrize("ring", [OLD, SHARED])
@pytest.mark.parametrize("name", ["eu.task:fraud:plan", "eu.plan", "eu.manifest:8", "us.manifest:7"])
def test_a_signature_of_another_record_task_or_service_is_refused(ring: KeyRing, name: str) -> None:
    """N8: somebody without a key copied the signed record of one place in the server to another."""
    with pytest.raises(BadSignature, match=name):
        ring.for_replicas().verify(BODY, ring.sign(BODY, "eu.manifest:7").encode(), name)
    with pytest.raises(BadSignature, match=name):
        ring.open(BODY, ring.seal(BODY, "eu.manifest:7").encode(), name)
