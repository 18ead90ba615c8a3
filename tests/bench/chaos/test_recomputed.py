"""Checks that an answer is compared with the version that it names, with real weights in a real store."""

import pytest
from msgspec.structs import replace

from bench.chaos.recomputed import UNUSED, recompute_answer
from serving.config import PrecisionConfig
from serving.errors import VersionRefused
from serving.predict import predict_many
from serving.weights.loader import Loader
from tests.serving.versions import TinyPublisher, live_versions, tokenizer
from wire.records import Answer, Event
from wire.store import Store

TEXT = "where is my card"


@pytest.fixture
def learner(store: Store) -> TinyPublisher:
    return TinyPublisher(store)


@pytest.fixture
def loader(store: Store) -> Loader:
    return Loader(store, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05)


def make_answer(number: int, precision: str) -> Answer:
    (answer,) = predict_many(
        [Event(id="e", text=TEXT, key="customer")],
        tokenizer().encode_many([TEXT]),
        live_versions([number]),
        {number: precision},
        top_scores=3,
        receipts=UNUSED,
        now_ms=lambda: 0,
    )
    return answer


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_named_version_gives_this_very_answer(learner: TinyPublisher, loader: Loader, precision: str) -> None:
    learner.publish(1)
    answer = make_answer(1, precision)
    again = recompute_answer(answer, loader, tokenizer(), 3)
    assert (again.label, again.scores) == (answer.label, answer.scores)


def test_another_version_does_not_give_it(learner: TinyPublisher, loader: Loader) -> None:
    learner.publish(1)
    learner.publish(2)
    named_wrongly = replace(make_answer(1, "int8"), weights_version=2)
    assert recompute_answer(named_wrongly, loader, tokenizer(), 3).scores != named_wrongly.scores


def test_a_version_that_is_not_stored_says_nothing(loader: Loader) -> None:
    with pytest.raises(VersionRefused):
        recompute_answer(make_answer(1, "int8"), loader, tokenizer(), 3)
