"""Sets of labels through the whole flow of `test_in_memory`: event, answer, labels, version, swap, rollout, correction.

The slow test plays docs/kinds.md against the programs of `lifelong up`, with whatever broker and Redis there are.
"""

import json
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from learner.learner import Learner
from learner.relabelling import follow_settings
from lifelong.plugins.kinds.sets import f1
from tests.flow.test_in_memory import NUM_EVENTS, Service, carried
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import Setting
from tests.learner.streams import TOPICS
from tests.learner.streams import answer as answer_of
from tests.services.command_line import lifelong
from tests.services.stack_owner import UP, Owner, owning
from tests.serving.versions import RECEIPTS
from tests.waiting import eventually
from wire.config import LabelConfig
from wire.receipts import Receipts
from wire.records import Answer, Event, Feedback
from wire.store import Store

SETS = LabelConfig(kind="multilabel")
Names = tuple[str, ...]


def names_of_event(number: int) -> Names:
    """One topic, two, or none: every fifth event is of another kind."""
    first, second = TOPICS[number % 3], TOPICS[(number // 3) % 3]
    return () if number % 5 == 4 else tuple(sorted({first, second}))


def text_of_event(number: int) -> str:
    names = names_of_event(number)
    return " and ".join(f"the {name} {name}" for name in names) if names else f"hello to all of you, {number}"


def events(name: str) -> list[Event]:
    return [Event(id=f"{name}-{number}", text=text_of_event(number)) for number in range(NUM_EVENTS)]


def labels() -> list[Names]:
    return [names_of_event(number) for number in range(NUM_EVENTS)]


def mean_f1(answers: Sequence[Answer], labels: Sequence[Names]) -> float:
    agreements = [f1(answer.labels or (), names) for answer, names in zip(answers, labels, strict=True)]
    return sum(agreements) / len(agreements)


class SetRig(PublishRig):
    """A learner of sets and its publisher."""

    def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
        learner = super().make_learner(receipts, folder, **changed)
        learner.label_config = SETS
        follow_settings(learner)
        return learner


class SetService(Service):
    """A service whose events have sets of labels."""

    def __init__(self, store: Store, folder: Path, *, task: str = "", beside: Service | None = None) -> None:
        super().__init__(store, folder, labels=SETS, task=task, beside=beside)
        self.learner.learner.label_config = SETS
        follow_settings(self.learner.learner)

    def label_sets(self, answers: Sequence[Answer], labels: Sequence[Names]) -> None:
        self.read(
            answers,
            [
                Feedback(
                    event_id=answer.event_id, labels=names, key=answer.key, receipt=answer.receipt, task=answer.task
                )
                for answer, names in zip(answers, labels, strict=True)
            ],
        )


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[SetService]:
    started = SetService(store, tmp_path)
    started.start()
    yield started
    started.close()


def test_an_event_is_answered_with_all_of_its_labels_by_the_version_that_has_learnt_them(
    service: SetService, store: Store
) -> None:
    assert service.publish() == 1
    before = service.answer(events("first"))
    assert {(answer.label, answer.labels) for answer in before} == {(None, None)}
    service.label_sets(before, labels())
    assert service.publish() == 2
    manifest = store.versions.manifest(2)
    assert (manifest.labelled.kind, manifest.format_version) == ("multilabel", 4)
    assert manifest.labelled.threshold > 0
    after = service.answer(events("second"))
    assert {(answer.weights_version, answer.arm, answer.label) for answer in after} == {(2, "stable", None)}
    assert mean_f1(after, labels()) >= 0.9
    assert () in {answer.labels for answer in after}, "an event without a label is answered without one"


def test_labels_that_come_back_judge_two_versions_by_the_sets_that_both_named(service: SetService) -> None:
    service.publish()
    service.label_sets(service.answer(events("first")), labels())
    service.publish(objection="labels decide")
    compared = service.answer(events("second"))
    assert {answer.arm for answer in compared} == {"stable", "candidate"}
    service.label_sets(compared, labels())
    service.await_swap()
    after = service.answer(events("third"))
    assert {(answer.weights_version, answer.arm) for answer in after} == {(2, "stable")}


def test_a_corrected_set_takes_the_place_of_the_one_that_was_learnt(service: SetService) -> None:
    service.publish()
    answers = service.answer(events("first"))
    service.label_sets(answers, labels())
    knowledge = service.learner.learner.knowledge
    corrected = Feedback(event_id=answers[0].event_id, labels=("another",), event_source="", source="operator")
    service.read([], [RECEIPTS.approved(corrected)])
    held = [*knowledge.replay.samples(), *knowledge.holdout.samples.samples()]
    assert [sample.label for sample in held if sample.label.endswith("another") and sample.event] != []
    assert service.learner.learner.counts["corrected"] == 1


def test_one_label_is_refused_where_sets_are_wanted_and_says_what_to_send(service: SetService) -> None:
    service.publish()
    (answer, *_) = service.answer(events("first")[:1])
    (refused,) = service.read([answer], [Feedback(event_id=answer.event_id, label="refund", receipt=answer.receipt)])
    assert (refused.reason, "send `labels`, a list" in refused.detail) == ("wrong_kind", True)
    assert carried(refused).feedback.label == "refund"


def test_a_slow_round_trains_on_sets_and_a_restart_goes_on_with_them(store: Store, tmp_path: Path) -> None:
    rig = SetRig(store, tmp_path, trainable_layers=1)
    records = list[Answer | Feedback]()
    for number in range(NUM_EVENTS):
        names = names_of_event(number)
        records += [answer_of(number, label=None), Feedback(event_id=f"event-{number}", labels=names, time_ms=number)]
    rig.learner.learn_many(records, {"feedback.v1/0": NUM_EVENTS})
    rig.publish()
    rig.learner.begin("labels")
    while rig.learner.has_work:
        rig.learner.tick()
    assert rig.learner.counts["rounds_adopted"] + rig.learner.counts["rounds_dropped"] == 1
    rig.publisher.parent.make_due()
    version = rig.publish()
    head = rig.learner.fast_head
    rig.start()
    assert rig.learner.version == version
    restored = rig.learner.fast_head
    assert restored.threshold == head.threshold > 0
    for name, values in head.export().items():
        assert torch.equal(restored.export()[name], values), name


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    folder = tmp_path_factory.mktemp("sets")
    with owning(UP, folder, LIFELONG_LABELS__KIND="multilabel") as owner:
        yield owner


def post(up: Owner, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{up.port}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        answered: dict[str, Any] = json.load(reply)
        return answered


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_service_of_sets_learns_corrects_and_forgets_them(up: Owner, tmp_path: Path) -> None:
    environment = {"LIFELONG_STATE_DIR": str(up.folder), "LIFELONG_LABELS__KIND": "multilabel"}
    history = tmp_path / "history.jsonl"
    rows = [{"id": f"h{n}", "text": text_of_event(n), "labels": names_of_event(n)} for n in range(120)]
    history.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = lifelong("import", str(history), **environment)
    assert done.returncode == 0, done.stderr

    def answered(text: str) -> dict[str, Any]:
        found: dict[str, Any] = post(up, "/v1/predict", {"events": [{"text": text, "key": "customer-7"}]})["answers"][0]
        return found

    eventually(lambda: answered(text_of_event(1)).get("labels") == list(names_of_event(1)), within_s=90)
    parcels = [answered(f"the parcel and the parcel {number}") for number in range(8)]
    for answer in parcels:
        label = {name: answer[name] for name in ("event_id", "key", "receipt")}
        taken = post(up, "/v1/feedback", {**label, "labels": ["parcel"], "event_source": "http"})["labels"][0]
        assert taken["labels"] == ["parcel"]
    eventually(lambda: "parcel" in (answered("the parcel and the parcel").get("labels") or ()), within_s=90)
    for answer in parcels:
        correction = (answer["event_id"], "parcel", "refund", "--event-source", "http", "--correct")
        done = lifelong("feedback", *correction, **environment)
        assert done.returncode == 0, done.stderr
    both = {"parcel", "refund"}
    eventually(lambda: both <= set(answered("the parcel and the parcel").get("labels") or ()), within_s=90)
    done = lifelong("labels", "rename", "parcel", "packet", **environment)
    assert done.returncode == 0, done.stderr
    eventually(lambda: "packet" in (answered("the parcel and the parcel").get("labels") or ()), within_s=90)
    done = lifelong("forget", "--subject", "customer-7", **environment)
    assert done.returncode == 0, done.stderr
