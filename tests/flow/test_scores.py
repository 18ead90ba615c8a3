"""Scores through the whole flow of `test_in_memory`: event, answer, label, version, swap, rollout, correction."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from learner.relabelling import follow_settings
from lifelong.plugins.kinds.scores import parse_score
from tests.flow.test_in_memory import NUM_EVENTS, Service
from tests.learner.streams import TOPICS
from tests.serving.versions import RECEIPTS
from wire.config import LabelConfig
from wire.records import Answer, Event, Feedback, LabelSpace
from wire.store import Store

SCORES = LabelConfig(kind="score", range=(1.0, 5.0))


def make_score(number: int) -> float:
    """Each topic has its own score."""
    return 1.0 + number % 5


def events(name: str) -> list[Event]:
    texts = [f"the {TOPICS[number % 5]} {TOPICS[number % 5]} once more" for number in range(NUM_EVENTS)]
    return [Event(id=f"{name}-{number}", text=text) for number, text in enumerate(texts)]


def mean_error(answers: Sequence[Answer]) -> float:
    errors = [abs((answer.value or 0.0) - make_score(number)) for number, answer in enumerate(answers)]
    return sum(errors) / len(errors)


class ScoreService(Service):
    """A service whose events have scores."""

    def __init__(self, store: Store, folder: Path) -> None:
        super().__init__(store, folder, labels=SCORES)
        self.learner.learner.label_config = SCORES
        follow_settings(self.learner.learner)

    def label_scores(self, answers: Sequence[Answer]) -> None:
        self.read(
            answers,
            [
                Feedback(event_id=answer.event_id, value=make_score(number), key=answer.key, receipt=answer.receipt)
                for number, answer in enumerate(answers)
            ],
        )


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[ScoreService]:
    started = ScoreService(store, tmp_path)
    started.start()
    yield started
    started.close()


def test_an_event_is_answered_with_its_score_by_the_version_that_has_learnt_it(
    service: ScoreService, store: Store
) -> None:
    assert service.publish() == 1
    before = service.answer(events("first"))
    assert {(answer.label, answer.value) for answer in before} == {(None, None)}
    service.label_scores(before)
    assert service.publish() == 2
    manifest = store.versions.manifest(2)
    assert manifest.labelled == LabelSpace(kind="score", low=1.0, high=5.0)
    assert manifest.format_version == 4
    after = service.answer(events("second"))
    assert {(answer.weights_version, answer.arm, answer.label) for answer in after} == {(2, "stable", None)}
    assert mean_error(after) < 0.5


def test_labels_that_come_back_judge_two_versions_by_their_errors(service: ScoreService) -> None:
    service.publish()
    service.label_scores(service.answer(events("first")))
    service.publish(objection="labels decide")
    for name in ("second", "third"):
        service.label_scores(service.answer(events(name)))
    service.await_swap()
    after = service.answer(events("fourth"))
    assert {(answer.weights_version, answer.arm) for answer in after} == {(2, "stable")}


def test_a_corrected_score_takes_the_place_of_the_one_that_was_learnt(service: ScoreService) -> None:
    service.publish()
    answers = service.answer(events("first"))
    service.label_scores(answers)
    learner = service.learner.learner
    corrected = Feedback(event_id=answers[0].event_id, value=9.0, event_source="", source="operator")
    service.read([], [RECEIPTS.approved(corrected)])
    held = [*learner.replay.samples(), *learner.knowledge.holdout.samples.samples()]
    assert len(held) == NUM_EVENTS == learner.fast_head.ridge.num_samples + len(learner.knowledge.holdout)
    assert learner.counts["corrected"] == 1
    assert sum(parse_score(sample.label) == 1.0 for sample in held) == 1 + sum(
        make_score(number) == 5.0 for number in range(NUM_EVENTS)
    )
