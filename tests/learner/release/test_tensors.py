"""Tests of the cache of tensors."""

from learner.encoder.served import StoredTensor, export_encoder
from learner.release.tensors import NEWEST, TensorCache
from tests.learner.small_learner import small_strata


def two_tensors() -> list[StoredTensor]:
    return list(export_encoder(small_strata()).values())[:2]


def test_a_tensor_is_found_by_its_digest_while_a_version_has_it() -> None:
    shared, own = two_tensors()
    cache = TensorCache()
    cache.add(1, {"shared": shared, "own": own})
    cache.add(2, {"shared": shared})
    assert cache.has(1) and not cache.has(3)
    assert (cache.find(shared.entry.digest), cache.find(own.entry.digest)) == (shared, own)
    assert cache.find("0" * 64) is None


def test_the_versions_that_are_needed_and_the_newest_few_stay() -> None:
    shared, own = two_tensors()
    cache = TensorCache()
    cache.add(1, {"own": own})
    for version in range(2, NEWEST + 4):
        cache.add(version, {"shared": shared})
    cache.keep([2])
    assert [version for version in range(NEWEST + 4) if cache.has(version)] == [2, *range(4, NEWEST + 4)]
    assert cache.find(own.entry.digest) is None and cache.find(shared.entry.digest) is shared


def test_what_was_refused_is_suspected() -> None:
    tensors = dict(zip("ab", two_tensors(), strict=True))
    cache = TensorCache()
    cache.suspect(tensors)
    assert cache.suspects == {stored.entry.digest for stored in tensors.values()}
