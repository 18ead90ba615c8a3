"""The labels of mapped topics: the last one of an event counts, and takes the place of the one before."""

import msgspec
import pytest

from tests.rollout.joined import Judged, answer, feedback


@pytest.mark.parametrize("source", ["", "crm"])
def test_a_label_of_a_mapped_topic_takes_the_place_of_the_one_before(source: str) -> None:
    """It is taken out of the counts, as a correction of an operator takes it out; the same label again is none."""
    named = source or None
    join = Judged()
    join.add(answer("a", source=source))
    join.add(msgspec.structs.replace(feedback("a", "no", event_source=named), replaces=True))
    join.add(msgspec.structs.replace(feedback("a", "yes", event_source=named), replaces=True))
    join.add(msgspec.structs.replace(feedback("a", "yes", event_source=named), replaces=True))
    join.add(feedback("a", "no", event_source=named))
    first, second = join.found
    assert second.corrected == first
    assert (join.counts["corrected"], join.counts["label_repeated"]) == (1, 2)


def test_the_last_early_label_of_a_mapped_topic_counts() -> None:
    join = Judged()
    join.add(msgspec.structs.replace(feedback("a", "no"), replaces=True))
    join.add(msgspec.structs.replace(feedback("a", "yes"), replaces=True))
    join.add(feedback("a", "no"))
    join.add(answer("a"))
    assert join.num_judged() == (1, 1)


def test_replacing_labels_count_within_the_limits_of_their_source() -> None:
    join = Judged(quota_refusal=lambda source, answer_ms: "over_rate" if join.found else "")
    join.add(answer("a"))
    join.add(msgspec.structs.replace(feedback("a", "no"), replaces=True))
    join.add(msgspec.structs.replace(feedback("a", "yes"), replaces=True))
    assert (len(join.found), join.counts["label_over_rate"]) == (1, 1)
