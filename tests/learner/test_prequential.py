from learner.join import Sample
from learner.prequential import RECENT, Prequential


def sample(*, is_correct: bool) -> Sample:
    return Sample(
        event_id="e",
        text="text",
        label="yes",
        predicted_label="yes" if is_correct else None,
        arm="stable",
        weights_version=1,
        feedback_time_ms=0,
        subject="",
        is_held_back=False,
    )


def test_accuracy_is_of_all_answers_and_of_the_recent() -> None:
    it = Prequential()
    it.add([sample(is_correct=False)] * RECENT)
    it.add([sample(is_correct=True)] * (RECENT // 2))
    assert it.accuracy == 1 / 3 and it.recent_accuracy == 0.5


def test_nothing_scored_is_zero() -> None:
    assert Prequential().accuracy == Prequential().recent_accuracy == 0.0
