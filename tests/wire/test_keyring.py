"""Tests keys: both keys of a pair have one id, and signatures are Ed25519, by the test vector of RFC 8032."""

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wire.keyring import Key, Kind, new_key

SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def test_the_public_key_of_a_seed_is_the_first_test_vector_of_rfc_8032() -> None:
    pair = Key(Kind.SECRET, SEED)
    assert pair.public == PUBLIC and pair.of_kind(Kind.PUBLIC) == Key(Kind.PUBLIC, PUBLIC)
    assert pair.id == Key(Kind.PUBLIC, PUBLIC).id == Key(Kind.RETIRED, PUBLIC).id == sha256(PUBLIC).hexdigest()[:16]


def test_a_signature_covers_the_purpose_and_the_digests_of_name_and_record() -> None:
    signature = Key(Kind.SECRET, SEED).sign(b"body", "eu.plan")
    signed = b"lifelong signature v2\n" + sha256(b"eu.plan").digest() + sha256(b"body").digest()
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(signature, signed)
    public = Key(Kind.PUBLIC, PUBLIC)
    assert public.is_signature(signature, b"body", "eu.plan")
    assert not public.is_signature(signature, b"other", "eu.plan")
    assert not public.is_signature(signature, b"body", "us.plan")


def test_no_two_keys_are_the_same_and_none_shows_its_secret() -> None:
    keys = [new_key(kind) for kind in Kind for _ in range(20)]
    assert len({key.value for key in keys}) == len({key.id for key in keys}) == len(keys)
    assert not any(key.value.hex() in repr(key) or key.id in key.value.hex() for key in keys)
