"""Tests the set of recent names."""

from hypothesis import given
from hypothesis import strategies as st

from wire.recent import RecentHashes, name_hash64


@given(st.lists(st.sampled_from([b"a", b"b", b"c", b"d"])), st.integers(0, (1 << 32) - 1))
def test_the_last_different_names_are_remembered(names: list[bytes], seed: int) -> None:
    recent = RecentHashes(2, seed=seed)
    expected: list[bytes] = []
    for name in names:
        recent.add(name)
        if name not in expected:
            expected = [*expected, name][-2:]
        assert [each for each in (b"a", b"b", b"c", b"d") if each in recent] == sorted(expected)
    assert recent.export() == [name_hash64(name, seed) for name in expected]


def test_an_exported_set_is_restored() -> None:
    recent = RecentHashes(2)
    for name in (b"a", b"b", b"c"):
        recent.add(name)
    restored = RecentHashes(2, recent.export())
    restored.add(b"d")
    assert [name in restored for name in (b"a", b"b", b"c", b"d")] == [False, False, True, True]


def test_a_discarded_name_makes_room() -> None:
    recent = RecentHashes(3)
    for name in (b"a", b"b", b"c"):
        recent.add(name)
    recent.discard([b"b", b"never seen"])
    assert recent.export() == [name_hash64(b"a"), name_hash64(b"c")]
    recent.add(b"d")
    recent.add(b"b")
    assert [name in recent for name in (b"a", b"b", b"c", b"d")] == [False, True, True, True]
