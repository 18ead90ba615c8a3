"""What is kept of an answer until its label comes."""

from rollout.label_join import WaitingAnswer
from tests.learner.intake.joins import answer
from tests.wire.samples import VERDICTS
from wire.events import MAX_LATER_TIMES
from wire.records import Answer


def waiting(given: Answer) -> WaitingAnswer:
    return WaitingAnswer.from_answer(given, VERDICTS, 1, seed=7)


def test_another_text_entity_or_source_is_another_event() -> None:
    kept = waiting(answer("e", "one", source="crm"))
    assert kept.is_same_event(waiting(answer("e", "one", source="crm", time_ms=9)))
    for other in (answer("e", "two", source="crm"), answer("e", "one", source="crm", key="k"), answer("e", "one")):
        assert not kept.is_same_event(waiting(other))


def test_the_first_time_and_the_last_few_are_kept() -> None:
    kept = waiting(answer("e", time_ms=1))
    for time_ms in range(2, 30):
        kept.add_repeat(waiting(answer("e", time_ms=time_ms)))
    assert kept.times_ms == (1, *range(30 - MAX_LATER_TIMES, 30))
