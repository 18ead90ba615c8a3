"""How many labels of one source may count."""

from collections import Counter
from collections.abc import Iterable

from rollout.label_join import SourceQuota, make_source_quota
from wire.config import TrustConfig


def counted(quota_refusal: SourceQuota, sources: Iterable[str], *, time_ms: int = 0) -> Counter[str]:
    """Counts the labels of each source that are within its quota."""
    return Counter(source for source in sources if not quota_refusal(source, time_ms))


def test_a_source_alone_counts_in_full() -> None:
    """B10: a single source is the case of a laptop."""
    assert counted(make_source_quota(TrustConfig(), share=0.5), ["me"] * 500)["me"] == 500


def test_sources_that_say_about_as_much_as_each_other_count_in_full() -> None:
    assert counted(make_source_quota(TrustConfig(), share=0.3), ["a", "b", "c"] * 100) == {"a": 100, "b": 100, "c": 100}


def test_a_source_that_floods_gets_its_share_while_others_label() -> None:
    """B10: labels of one source alone could withdraw every version."""
    counts = counted(make_source_quota(TrustConfig(), share=0.5), (["bot"] * 9 + ["desk"]) * 100)
    assert counts["desk"] == 100
    assert counts["bot"] <= 110


def test_what_the_learner_holds_for_its_source_does_not_count() -> None:
    """B10: the learner's own code and settings decide."""
    limited = make_source_quota(TrustConfig(source_labels_per_s=1.0, source_burst=10), share=1.0)
    assert counted(limited, ["bot"] * 50)["bot"] == 10
    assert counted(limited, ["bot"] * 50, time_ms=5_000)["bot"] == 5
    shared = make_source_quota(TrustConfig(source_share=0.5), share=1.0)
    assert counted(shared, (["bot"] * 9 + ["desk"]) * 100)["bot"] <= 110
