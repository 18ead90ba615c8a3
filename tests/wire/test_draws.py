"""Tests the random samples of events: uniform, independent of each other, and unpredictable without the secret."""

import pytest

from wire.draws import AUDIT, PAIRED, is_drawn, keyed_uniform_hash

IDS = [f"event-{number}" for number in range(10_000)]


def test_places_are_uniform_and_depend_on_the_secret() -> None:
    places = [keyed_uniform_hash(b"secret", name.encode()) for name in IDS]
    assert all(0 <= place < 1 for place in places)
    assert sum(places) / len(places) == pytest.approx(0.5, abs=0.02)
    others = [keyed_uniform_hash(b"other", name.encode()) for name in IDS]
    assert sum(abs(one - other) < 0.01 for one, other in zip(places, others, strict=True)) < 400


def test_a_sample_has_its_share_and_two_samples_are_independent() -> None:
    audited = {name for name in IDS if is_drawn(b"secret", AUDIT, name, 0.1)}
    paired = {name for name in IDS if is_drawn(b"secret", PAIRED, name, 0.1)}
    assert len(audited) == pytest.approx(1_000, abs=120)
    assert len(audited & paired) == pytest.approx(100, abs=45)
    assert audited <= {name for name in IDS if is_drawn(b"secret", AUDIT, name, 0.2)}
