"""Tests real workers: they encode on command, concurrently, and end with us."""

import pytest

from services.tune.measure import NUM_TEXTS, Layout, TuneFailed, measure


def test_every_layout_is_measured_at_every_size() -> None:
    messages: list[str] = []
    table = measure([Layout(1, 1), Layout(2, 1)], encoder="minilm-l6", say=messages.append, seconds=0.01)
    assert [each.layout for each in table] == [Layout(1, 1), Layout(2, 1)]
    assert all(tuple(each.texts_per_s) == NUM_TEXTS and min(each.texts_per_s.values()) > 0 for each in table)
    assert "Measuring 2 x 1 ..." in messages


def test_a_worker_that_ends_is_told() -> None:
    with pytest.raises(TuneFailed):
        measure([Layout(1, 1)], encoder="no/such-encoder", say=lambda _: None)
