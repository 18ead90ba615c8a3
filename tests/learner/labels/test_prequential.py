from learner.labels.prequential import RECENT, Prequential
from tests.learner.streams import sample


def test_accuracy_is_of_all_answers_and_of_the_recent() -> None:
    prequential = Prequential()
    prequential.add([sample(is_correct=False)] * RECENT)
    prequential.add([sample(is_correct=True)] * (RECENT // 2))
    assert prequential.accuracy == 1 / 3
    assert prequential.recent_accuracy == 0.5


def test_nothing_scored_is_zero() -> None:
    assert Prequential().accuracy == 0.0
    assert Prequential().recent_accuracy == 0.0
