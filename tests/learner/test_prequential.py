from learner.prequential import MAX_CONFUSIONS, RECENT, Prequential
from tests.learner.streams import sample
from wire.records import Confusion


def test_accuracy_is_of_all_answers_and_of_the_recent() -> None:
    prequential = Prequential()
    prequential.add([sample(is_correct=False)] * RECENT)
    prequential.add([sample(is_correct=True)] * (RECENT // 2))
    assert prequential.accuracy == 1 / 3
    assert prequential.recent_accuracy == 0.5


def test_nothing_scored_is_zero() -> None:
    assert Prequential().accuracy == 0.0
    assert Prequential().recent_accuracy == 0.0


def test_the_most_frequent_mistakes_among_the_recent_answers_are_named() -> None:
    prequential = Prequential()
    prequential.add([sample(is_correct=False, label="old")] * RECENT)
    prequential.add([sample(is_correct=False, label="seldom"), sample(is_correct=True)])
    prequential.add([sample(is_correct=False, label="often")] * (RECENT - 2))
    assert prequential.confusions() == (
        Confusion(label="often", answered="", answers=RECENT - 2),
        Confusion(label="seldom", answered="", answers=1),
    )
    prequential.add([sample(is_correct=False, label=f"class {number}") for number in range(RECENT)])
    assert len(prequential.confusions()) == MAX_CONFUSIONS
