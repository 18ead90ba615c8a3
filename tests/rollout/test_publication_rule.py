"""The rules at a publication as tables: what the manifest says of the last events, of the line, and of the holdout."""

import msgspec
import pytest

from rollout.publication_rule import decide, moves_reference
from wire.records import NameChanges, NewClass

ALIKE = NameChanges(texts=2_000, between_old=2)
"""Recent texts that the candidate names as the reference does: rule A applies."""


NEW_ONES = msgspec.structs.replace(
    ALIKE, to_new=100, new_classes=(NewClass(label="refund", texts=100, labels=40),), labels=2_000
)


@pytest.mark.parametrize(
    ("changes", "is_promoted"),
    [
        pytest.param(msgspec.structs.replace(ALIKE, between_old=20), True, id="names change within the margin"),
        pytest.param(msgspec.structs.replace(ALIKE, between_old=40), False, id="too many names change"),
        pytest.param(msgspec.structs.replace(ALIKE, texts=200, between_old=0), False, id="too few texts to tell"),
        pytest.param(msgspec.structs.replace(ALIKE, texts=20, between_old=0, to_new=20), True, id="all is new"),
        pytest.param(NEW_ONES, True, id="many names of a new class, of which labels say nothing else"),
        pytest.param(msgspec.structs.replace(NEW_ONES, forgotten=40), False, id="the reference named many rightly"),
        pytest.param(msgspec.structs.replace(NEW_ONES, losses=8), False, id="its line is worse than the reference"),
        pytest.param(
            msgspec.structs.replace(NEW_ONES, new_classes=(NewClass(label="refund", texts=400, labels=10),)),
            False,
            id="a flood: a new class takes many times its share",
        ),
        pytest.param(
            msgspec.structs.replace(ALIKE, new_classes=(NewClass(label="refund", texts=1, labels=0),), labels=200),
            False,
            id="a class without labels",
        ),
        pytest.param(
            msgspec.structs.replace(ALIKE, new_classes=(NewClass(label="refund", texts=0, labels=0),)),
            True,
            id="a class that nothing is named",
        ),
    ],
)
def test_rule_a_asks_whether_only_new_classes_were_added(changes: NameChanges, is_promoted: bool) -> None:
    ruling = decide(changes)
    assert (ruling.rule == "A") == is_promoted, ruling


CHANGED = msgspec.structs.replace(ALIKE, between_old=300)
"""Many old names change, so only the line can promote."""


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        pytest.param(msgspec.structs.replace(CHANGED, wins=40, ties=60, losses=5), "B", id="the line is better"),
        pytest.param(msgspec.structs.replace(CHANGED, wins=40, ties=60, losses=30), "", id="too close to call"),
        pytest.param(msgspec.structs.replace(CHANGED, wins=3, ties=700, losses=3), "C", id="it is not worse"),
        pytest.param(
            msgspec.structs.replace(CHANGED, wins=40, ties=60, losses=5, lost=100),
            "",
            id="the line is better, and the version has lost what the one before it names",
        ),
        pytest.param(msgspec.structs.replace(CHANGED, wins=3, ties=700, losses=20), "", id="it may be worse"),
    ],
)
def test_a_version_may_be_promoted_for_its_line(changes: NameChanges, rule: str) -> None:
    """Labels that came since the reference was set say how the versions before it did."""
    assert decide(changes).rule == rule


def held(wins: int, ties: int, losses: int) -> NameChanges:
    return NameChanges(reference=7, held_wins=wins, held_ties=ties, held_losses=losses)


@pytest.mark.parametrize(
    ("changes", "rule", "reason"),
    [
        pytest.param(held(60, 930, 10), "B", "better than the reference on the holdout", id="better"),
        pytest.param(held(20, 960, 8), "C", "not worse than the reference by the margin on the holdout", id="as good"),
        pytest.param(held(0, 500, 0), "C", "on the holdout", id="all names are right and wrong as before"),
        pytest.param(held(0, 400, 0), "", "too close to call: 0 won, 400 tied, 0 lost", id="few samples"),
        pytest.param(held(20, 960, 20), "", "too close to call", id="it may be worse"),
        pytest.param(held(5, 1_900, 20), "", "worse than the reference on the holdout", id="worse beyond doubt"),
        pytest.param(held(0, 0, 0), "", "too close to call", id="nothing is known"),
    ],
)
def test_a_version_with_another_encoder_is_promoted_by_the_holdout(
    changes: NameChanges, rule: str, reason: str
) -> None:
    ruling = decide(changes)
    assert ruling.rule == rule and reason in ruling.reason, ruling
    assert ruling.numbers.changed == ruling.numbers.forgotten == 1.0, "without texts rule A holds for none"


def tried(wins: int, ties: int, losses: int) -> NameChanges:
    return NameChanges(reference=7, trial_wins=wins, trial_ties=ties, trial_losses=losses)


@pytest.mark.parametrize(
    ("changes", "rule", "reason"),
    [
        pytest.param(tried(30, 300, 5), "B", "its encoder was better than the one before, 30 won", id="better"),
        pytest.param(tried(8, 700, 6), "C", "not worse than the one before by the margin", id="as good"),
        pytest.param(tried(6, 900, 8), "", "too close to call: 6 won, 900 tied, 8 lost", id="it has lost more"),
        pytest.param(tried(3, 200, 2), "", "too close to call", id="few labels"),
        pytest.param(tried(2, 700, 20), "", "its encoder was worse than the one before", id="worse beyond doubt"),
        pytest.param(
            msgspec.structs.replace(tried(30, 300, 5), held_losses=20),
            "",
            "worse than the reference on the holdout",
            id="better in its trial, and worse on the holdout",
        ),
        pytest.param(
            msgspec.structs.replace(tried(3, 200, 2), held_wins=60, held_ties=930, held_losses=10),
            "B",
            "on the holdout",
            id="the holdout decides",
        ),
    ],
)
def test_a_version_with_another_encoder_is_promoted_by_the_trial_of_that(
    changes: NameChanges, rule: str, reason: str
) -> None:
    ruling = decide(changes)
    assert ruling.rule == rule and reason in ruling.reason, ruling


@pytest.mark.parametrize(
    ("changes", "moves"),
    [
        pytest.param(held(60, 930, 10), True, id="another encoder"),
        pytest.param(tried(60, 930, 10), True, id="another encoder that was tried"),
        pytest.param(ALIKE, False, id="names as before"),
        pytest.param(msgspec.structs.replace(ALIKE, wins=60, ties=900, losses=10), False, id="a better line"),
        pytest.param(msgspec.structs.replace(ALIKE, wins=60, ties=960, losses=10), True, id="better on many labels"),
    ],
)
def test_the_reference_moves_to_another_encoder_and_to_a_line_that_is_better_on_many_labels(
    changes: NameChanges, moves: bool
) -> None:
    assert moves_reference(changes) == moves
