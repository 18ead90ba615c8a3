import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.quality.comparison import NUM_STAGES, Paired, compare

SAMPLES = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(-1, 6)), min_size=1, max_size=60)


@given(SAMPLES)
def test_every_known_sample_is_in_one_class_and_in_one_stage(samples: list[tuple[bool, bool, int]]) -> None:
    before, after, rows = (torch.tensor(column) for column in zip(*samples, strict=True))
    it = compare(before, after, rows, 7)
    known = rows >= 0
    whole = compare(before[known], after[known], rows[known], 7).overall
    for groups in (it.classes, it.stages):
        assert Paired(*(sum(counts) for counts in zip(*groups, strict=True))) == whole
    assert (len(it.classes), len(it.stages), it.overall.num) == (7, NUM_STAGES, len(samples))
    assert it.overall.accuracy_before == before.float().mean() and it.overall.accuracy == after.float().mean()
    assert abs(it.overall.drop - (it.overall.accuracy_before - it.overall.accuracy)) < 1e-9


def test_the_first_stage_holds_the_oldest_classes() -> None:
    rows = torch.arange(10)
    before = rows < 2  # only the two oldest classes were right
    it = compare(before, torch.zeros(10, dtype=torch.bool), rows, 10)
    assert it.stages == (Paired(2, 2, 2, 0), *[Paired(2, 0, 0, 0)] * 4)


def test_nothing_compares_as_nothing() -> None:
    nothing = torch.zeros(0, dtype=torch.bool)
    it = compare(nothing, nothing, nothing.long(), 0)
    assert it.overall == Paired() and it.classes == () and set(it.stages) == {Paired()}
    assert it.overall.accuracy == it.overall.drop == 0.0
