"""A seal is of one content, one name and one service, by a key that is not lost."""

import pytest

from wire.errors import BadSignature, CannotSign
from wire.keyring import new_ring
from wire.store import SEAL_CHARS, Seals

RING = new_ring()
SEALS = Seals(RING, "eu.")


def test_only_what_was_sealed_is_taken_for_it() -> None:
    seal = SEALS.seal(b"content", "backup")
    assert len(seal) == SEAL_CHARS and SEALS.signer == RING.keys[0].id
    SEALS.check(b"content", seal, "backup")
    Seals(RING, "us.").check(b"content", seal, "backup", prefix="eu.")
    for content, name, seals in (
        (b"Content", "backup", SEALS),
        (b"content", "checkpoint", SEALS),
        (b"content", "backup", Seals(RING, "us.")),
        (b"content", "backup", Seals(new_ring(), "eu.")),
    ):
        with pytest.raises(BadSignature, match=name):
            seals.check(content, seal, name)
    with pytest.raises(BadSignature):
        SEALS.check(b"content", b"", "backup")


def test_the_keys_of_a_replica_seal_nothing() -> None:
    with pytest.raises(CannotSign):
        Seals(RING.for_replicas(), "eu.").seal(b"content", "backup")
