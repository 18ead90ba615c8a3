"""How much one source may count for or against an arm."""

from collections import Counter
from collections.abc import Iterable

from rollout.influence import Influence
from wire.config import TrustConfig


def counted(influence: Influence, sources: Iterable[str], *, arm: str = "candidate", time_ms: int = 0) -> Counter[str]:
    """Counts the labels of each source that are not in excess."""
    return Counter(source for source in sources if not influence.excess(arm, source=source, answer_time_ms=time_ms))


def test_a_source_alone_counts_in_full() -> None:
    """B10: a single source is the case of a laptop."""
    assert counted(Influence(TrustConfig(), share=0.5), ["me"] * 500)["me"] == 500


def test_sources_that_say_about_as_much_as_each_other_count_in_full() -> None:
    assert counted(Influence(TrustConfig(), share=0.3), ["a", "b", "c"] * 100) == {"a": 100, "b": 100, "c": 100}


def test_a_source_that_floods_an_arm_gets_its_share_while_others_label() -> None:
    """B10: labels of the candidate arm alone could withdraw every version."""
    influence = Influence(TrustConfig(), share=0.5)
    assert counted(influence, ["desk"] * 90, arm="stable")["desk"] == 90
    counts = counted(influence, (["bot"] * 9 + ["desk"]) * 100)
    assert counts["desk"] == 100
    assert counts["bot"] <= 110


def test_a_flood_of_one_arm_does_not_hold_labels_of_the_other() -> None:
    influence = Influence(TrustConfig(), share=0.5)
    counted(influence, (["bot"] * 9 + ["desk"]) * 20)
    assert counted(influence, ["bot"] * 20, arm="stable")["bot"] == 20


def test_what_the_learner_holds_for_its_source_does_not_count() -> None:
    """B10: the learner's own code and settings decide."""
    limited = Influence(TrustConfig(source_labels_per_s=1.0, source_burst=10), share=1.0)
    assert counted(limited, ["bot"] * 50)["bot"] == 10
    assert counted(limited, ["bot"] * 50, time_ms=5_000)["bot"] == 5
    shared = Influence(TrustConfig(source_share=0.5), share=1.0)
    assert counted(shared, (["bot"] * 9 + ["desk"]) * 100)["bot"] <= 110
