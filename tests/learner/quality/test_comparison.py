import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.quality.comparison import NUM_STAGES, Paired, compare

SAMPLES = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(-1, 6)), min_size=1, max_size=60)


@given(SAMPLES)
def test_every_known_sample_is_in_one_class_and_in_one_stage(samples: list[tuple[bool, bool, int]]) -> None:
    before, after, rows = (torch.tensor(column) for column in zip(*samples, strict=True))
    comparison = compare(before, after, rows, 7)
    known = rows >= 0
    whole = compare(before[known], after[known], rows[known], 7).overall
    for groups in (comparison.classes, comparison.stages):
        assert Paired(*(sum(counts) for counts in zip(*groups, strict=True))) == whole
    overall = comparison.overall
    assert (len(comparison.classes), len(comparison.stages), overall.num) == (7, NUM_STAGES, len(samples))
    assert overall.accuracy_before == before.float().mean()
    assert overall.accuracy == after.float().mean()
    assert abs(overall.drop - (overall.accuracy_before - overall.accuracy)) < 1e-9


def test_the_first_stage_holds_the_oldest_classes() -> None:
    rows = torch.arange(10)
    before = rows < 2  # only the two oldest classes were right
    comparison = compare(before, torch.zeros(10, dtype=torch.bool), rows, 10)
    assert comparison.stages == (Paired(2, 2, 2, 0), *[Paired(2, 0, 0, 0)] * 4)


def test_nothing_compares_as_nothing() -> None:
    nothing = torch.zeros(0, dtype=torch.bool)
    comparison = compare(nothing, nothing, nothing.long(), 0)
    assert comparison.overall == Paired()
    assert comparison.classes == ()
    assert set(comparison.stages) == {Paired()}
    assert (comparison.overall.accuracy, comparison.overall.drop) == (0.0, 0.0)
