"""All labels without those of each source in turn."""

from rollout.paired_rule import PairedComparison
from rollout.statistics import PairedTally

DESK = PairedTally(wins=3, losses=1, ties=6)
SHOP = PairedTally(wins=1, losses=2, ties=2)


def test_no_source_decides_alone_where_there_are_several() -> None:
    both = PairedComparison(labels=DESK + SHOP, sources=(DESK, SHOP))
    assert tuple(both.leave_one_out) == (SHOP, DESK)


def test_one_source_is_all_there_is() -> None:
    assert tuple(PairedComparison(labels=DESK, sources=(DESK,)).leave_one_out) == (DESK,)
    assert tuple(PairedComparison(labels=DESK).leave_one_out) == (DESK,)
