"""Several tasks answer the events of one batch: what each says is what it would say alone, and encoders run once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

import msgspec
import pytest
from torch import Tensor

from model.packed import PackedEncoder
from model.ragged import RaggedBatch
from serving.encodings import Health, SharedPrefix
from serving.models import ActiveVersions, PrecisionChoice, all_versions
from serving.predict import Predict, predict_by_task, predict_many
from tests.serving.versions import PRECISIONS, RECEIPTS, build_plan, live_versions, make_model, tokenizer
from wire.receipts import receipt_time_ms
from wire.records import Answer, Event, Feedback

TEXTS = ["where is my card", "hi", "a somewhat longer text than the others, about my account", "hi again"]
PREDICT: Predict = partial(predict_many, top_scores=2, receipts=RECEIPTS, now_ms=lambda: 9)


class CountingHealth(Health):
    """Counts the texts of each whole forward, and blocks and texts of each one through the lower blocks alone."""

    def __init__(self, forwards: list[int], lower: list[tuple[int, int]] | None = None) -> None:
        super().__init__()
        self._forwards = forwards
        self._lower = [] if lower is None else lower

    def encode(
        self,
        encoder: PackedEncoder,
        batch: RaggedBatch,
        precision: str,
        *,
        others: Sequence[Health] = (),
        prefixes: Sequence[SharedPrefix] = (),
    ) -> Tensor:
        if not prefixes:
            self._forwards.append(batch.layout.num_sequences)
        return super().encode(encoder, batch, precision, others=others, prefixes=prefixes)

    def encode_prefixes(
        self, encoder: PackedEncoder, batch: RaggedBatch, precision: str, layer: int
    ) -> list[SharedPrefix]:
        self._lower.append((layer, batch.layout.num_sequences))
        return super().encode_prefixes(encoder, batch, precision, layer)


@pytest.fixture
def forwards() -> list[int]:
    return []


def make_tasks(forwards: list[int], numbers: Mapping[str, Sequence[int]]) -> dict[str, ActiveVersions]:
    """Returns tasks with these versions, all on one encoder."""
    return {
        task: replace(live_versions(each), task=task, health=CountingHealth(forwards)) for task, each in numbers.items()
    }


def answered(live: Mapping[str, ActiveVersions], events: Sequence[Event]) -> list[Answer]:
    tokens = tokenizer().encode_many([event.text for event in events])
    return predict_by_task(PREDICT, events, tokens, live, PrecisionChoice(dict.fromkeys(all_versions(live), "int8")))


def events(*tasks: tuple[str, ...]) -> list[Event]:
    """Returns an event for each text, which asks these tasks."""
    pairs = zip(TEXTS, tasks, strict=True)
    return [Event(id=f"e{row}", text=text, tasks=each) for row, (text, each) in enumerate(pairs)]


def test_each_task_says_what_it_would_say_alone_and_one_forward_is_enough(forwards: list[int]) -> None:
    live = make_tasks(forwards, {"": [1, 2], "queue": [3], "urgency": [4, 5]})
    given = events((), (), (), ())
    together = answered(live, given)
    assert forwards == [4]
    for task, versions in live.items():
        with_only = answered({task: versions}, given)
        assert [msgspec.structs.replace(own, vector=None) for answer in together if (own := answer.of_task(task))] == [
            msgspec.structs.replace(answer, vector=None) for answer in with_only
        ]


def test_an_event_is_answered_by_the_tasks_that_it_asks_the_first_of_them_at_the_top(forwards: list[int]) -> None:
    live = make_tasks(forwards, {"urgency": [3], "queue": [2], "": [1]})
    found = answered(live, events((), ("urgency",), ("queue", ""), ("queue", "urgency", "queue")))
    assert [(answer.task, [*answer.tasks]) for answer in found] == [
        ("", ["queue", "urgency"]),
        ("urgency", []),
        ("queue", [""]),
        ("queue", ["urgency"]),
    ]
    assert sum(forwards) == 4


def test_an_encoder_of_its_own_costs_a_task_a_forward(forwards: list[int]) -> None:
    live = make_tasks(forwards, {"": [1], "queue": [2], "urgency": [3]})
    version = replace(live["urgency"].versions[3], model=make_model(3, encoder_seed=1))
    live["urgency"] = replace(live["urgency"], versions={3: version})
    answered(live, events((), (), ("urgency",), ("",)))
    assert sorted(forwards) == [3, 3]


def test_a_receipt_proves_the_answer_of_its_task_alone(forwards: list[int]) -> None:
    live = make_tasks(forwards, {"": [1], "urgency": [2]})
    (answer, *_) = answered(live, events((), (), (), ()))
    label = Feedback(event_id="e0", label="high", task="urgency", receipt=answer.tasks["urgency"].receipt, time_ms=10)
    refusal = partial(RECEIPTS.refusal, is_required=True, max_age_ms=100)
    assert refusal(label) == ""
    assert refusal(msgspec.structs.replace(label, task="")) == "forged"
    assert refusal(msgspec.structs.replace(label, receipt=answer.receipt)) == "forged"
    assert refusal(msgspec.structs.replace(label, task="", receipt=answer.receipt)) == ""


def test_the_receipts_of_all_tasks_have_the_time_of_the_answer(forwards: list[int]) -> None:
    """Else the label of a task would not be matched with the answer."""
    ticking = partial(predict_many, top_scores=2, receipts=RECEIPTS, now_ms=count(9).__next__)
    live = make_tasks(forwards, {"": [1], "queue": [2], "urgency": [3]})
    choice = PrecisionChoice(dict.fromkeys(all_versions(live), "int8"))
    given = events((), ("urgency",), ("queue", ""), ())
    for answer in predict_by_task(ticking, given, tokenizer().encode_many(TEXTS), live, choice):
        assert {receipt_time_ms(each.receipt) for each in (answer, *answer.tasks.values())} == {answer.time_ms}


def test_the_forwards_of_a_shared_encoder_are_timed_for_all_tasks() -> None:
    """Version 2 of the task has an encoder of its own: it is timed beside the forwards that both tasks share."""
    both = {
        number: replace(live_versions([number]).versions[number], model=make_model(number, encoder_seed=number - 1))
        for number in (1, 2)
    }
    task = ActiveVersions(number=1, plan=build_plan(1, 2, share=1.0), versions=both, task="urgency")
    task.health.follow({number: version.model.encoder for number, version in both.items()}, stable=1)
    live = {"": live_versions([1]), "urgency": task}
    live[""].health.follow({1: both[1].model.encoder}, stable=1)
    for _ in range(20):
        answered(live, events((), (), (), ()))
    timed = {each.version: each.timed for each in task.health.report()}
    assert timed[1] == 0
    assert timed[2] > 0


def test_precisions_are_of_a_task() -> None:
    choice = PrecisionChoice({("", 1): "int8", ("urgency", 1): "int4"})
    assert choice.of_task("urgency") == {1: "int4"}
    live = {"": live_versions([1]), "urgency": replace(live_versions([1]), task="urgency")}
    given = events((), (), (), ())
    tokens = tokenizer().encode_many(TEXTS)
    for answer in predict_by_task(PREDICT, given, tokens, live, choice):
        assert (answer.precision, answer.tasks["urgency"].precision) == tuple(each.name for each in PRECISIONS)
