"""Following the plan: which versions become live, with which latencies, and what they answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.local.redis import start_redis
from serving.config import PrecisionConfig
from serving.engine import Engine
from serving.models import NOT_MEASURED, LatencyTable
from serving.predict import predict_many
from serving.weights.swap import Swap, SwapState
from tests.serving.versions import RECEIPTS, TinyPublisher, label_of, tokenizer
from tests.serving.weights.swaps import make_swap, served
from tests.stores import KEYS
from tests.waiting import eventually
from wire.config import StoreConfig
from wire.records import Event, PrecisionEvaluation
from wire.store import Store


def test_without_a_plan_nothing_is_live(swap: Swap, engine: Engine) -> None:
    swap.follow_plan()
    assert engine.live is None


def test_the_versions_of_the_plan_become_live(learner: TinyPublisher, swap: Swap, engine: Engine) -> None:
    learner.publish(1)
    learner.publish(2)
    learner.plan(1, 2)
    swap.follow_plan()
    assert served(engine) == (1, 1, 2)
    assert swap.state is SwapState.WAITING


def test_a_head_only_version_shares_the_encoder_object(learner: TinyPublisher, swap: Swap, engine: Engine) -> None:
    learner.publish(1)
    learner.publish(2)
    learner.plan(1, 2)
    swap.follow_plan()
    assert engine.live is not None
    first, second = engine.live.versions.values()
    assert first.model.encoder is second.model.encoder


def test_promotion_rollback_and_shares_need_no_fetch(
    learner: TinyPublisher, swap: Swap, engine: Engine, raw: Any, key: Callable[..., str]
) -> None:
    learner.publish(1)
    learner.publish(2)
    learner.plan(1, 2, share=0.1)
    swap.follow_plan()
    for name in raw.keys(key("blob", "*")):
        raw.delete(name)
    learner.plan(1, 2, share=0.5)
    swap.follow_plan()
    assert served(engine) == (2, 1, 2)
    learner.plan(2, previous=1)
    swap.follow_plan()
    assert served(engine) == (3, 2)
    learner.plan(1)
    swap.follow_plan()
    assert served(engine) == (4, 1)
    assert swap.refused == {}


def test_only_the_versions_of_the_plan_stay_resident(learner: TinyPublisher, swap: Swap) -> None:
    for number in range(1, 6):
        learner.publish(number)
        learner.plan(number, previous=number - 1)
        swap.follow_plan()
    assert set(swap.model_bytes) == {"4", "5", "resident"}


def test_what_the_plan_needs_beside_its_arms_is_scored_too(learner: TinyPublisher, swap: Swap, engine: Engine) -> None:
    """The version to which a rollback returns is judged by every label, although it answers nothing."""
    for number in (1, 2):
        learner.publish(number)
    learner.plan(2, previous=1)
    swap.follow_plan()
    assert engine.live is not None
    assert (engine.live.plan.versions, set(engine.live.versions)) == ((2,), {1, 2})
    assert len(engine.live.cohorts[2]) == 2
    number = engine.live.number
    swap.follow_plan()
    assert engine.live.number == number


def test_the_thread_follows_plans_and_reports(learner: TinyPublisher, swap: Swap, engine: Engine, store: Store) -> None:
    swap.start()
    for number in (1, 2, 3):
        learner.publish(number)
        learner.plan(number, previous=number - 1)
        eventually(lambda: engine.live is not None and served(engine)[1] == number)  # noqa: B023 - it is called here
    eventually(lambda: [report.versions for report in store.reports.replicas()] == [(3,)])
    swap.check()
    swap.close()
    assert swap.state is SwapState.CLOSED


@pytest.mark.parametrize("is_planned", [False, True])
def test_whoever_waits_for_the_first_weights_has_them_or_there_are_none(
    learner: TinyPublisher, swap: Swap, engine: Engine, is_planned: bool
) -> None:
    """A replica that listened before it had its weights answered 503 while another could answer."""
    if is_planned:
        learner.publish(1)
        learner.plan(1)
    swap.start()
    assert swap.await_first(30.0)
    assert (engine.live is not None) is is_planned


def test_whoever_waits_for_the_first_weights_learns_that_all_were_refused(
    learner: TinyPublisher, swap: Swap, engine: Engine
) -> None:
    """N14: one task without weights kept every replica that started from being ready, for all tasks."""
    learner.publish(1, model_spec="0" * 64)
    learner.plan(1)
    swap.start()
    assert swap.await_first(30.0)
    assert engine.live is None


def test_the_first_weights_come_when_the_store_does(tmp_path: Path, engine: Engine) -> None:
    # With "everysec" a server may answer up to two seconds before it writes, and loses that when it is killed.
    server = start_redis(tmp_path, options={"appendfsync": ["always"]})
    store = Store(StoreConfig(url=server.url, poll_interval_ms=50), KEYS)
    learner = TinyPublisher(store)
    learner.publish(1)
    learner.plan(1)
    server.process.kill()
    server.process.wait()
    swap = make_swap(store, engine)
    swap.start()
    assert not swap.await_first(1.0)
    server.start_again()
    assert swap.await_first(60.0)
    assert engine.live is not None
    swap.close()
    store.close()
    server.stop()


def test_the_live_model_answers_as_it_was_published(learner: TinyPublisher, swap: Swap, engine: Engine) -> None:
    learner.publish(1)
    learner.plan(1)
    swap.follow_plan()
    assert engine.live is not None
    tokens = tokenizer().encode_many(["where is my card"])
    event = Event(id="e", text="where is my card")
    (answer,) = predict_many(
        [event], tokens, engine.live, {1: "int8"}, top_scores=1, receipts=RECEIPTS, now_ms=lambda: 0
    )
    assert answer.label == label_of(1, "where is my card")


MEASURED = (PrecisionEvaluation(name="int8", accuracy=0.9), PrecisionEvaluation(name="int4", accuracy=0.88))
"""These accuracies let INT4 answer under overload only."""


def latencies(engine: Engine) -> list[LatencyTable]:
    assert engine.live is not None
    return [version.latency for version in engine.live.versions.values()]


def test_latencies_are_measured_once_for_all_versions_of_a_shape(
    learner: TinyPublisher, swap: Swap, engine: Engine
) -> None:
    learner.publish(1, precisions=MEASURED)
    learner.publish(2, precisions=MEASURED, encoder_seed=1)
    learner.plan(1, 2)
    swap.follow_plan()
    first, second = latencies(engine)
    assert first is second
    assert set(first.ms) == {"int8", "int4"}
    for times_ms in first.ms.values():
        assert min(times_ms) > 0


def test_without_a_choice_nothing_is_measured(learner: TinyPublisher, swap: Swap, engine: Engine) -> None:
    learner.publish(1, precisions=MEASURED[:1])
    learner.publish(2)  # in no precision was it measured how accurate it is
    learner.plan(1, 2)
    swap.follow_plan()
    assert latencies(engine) == [NOT_MEASURED, NOT_MEASURED]


def test_a_fixed_mode_leaves_no_choice(learner: TinyPublisher, store: Store, engine: Engine) -> None:
    learner.publish(1, precisions=MEASURED)
    learner.plan(1)
    make_swap(store, engine, precision=PrecisionConfig(mode="int4")).follow_plan()
    assert latencies(engine) == [NOT_MEASURED]
