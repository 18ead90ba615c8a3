"""The measurement of late labels, with few labels."""

import pytest

from bench.backlog import LateSize, find_late_labels

pytestmark = [pytest.mark.live, pytest.mark.slow]


def test_every_label_of_a_small_heap_is_found() -> None:
    search = find_late_labels(LateSize(answers=3_000, labels=200))
    assert search.counts["late_found"] == 200 and search.counts["late_searched"] == 0
    assert search.took_s > 0
