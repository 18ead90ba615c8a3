"""Following the plan: which versions are taken or refused, and which answer meanwhile."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from serving.config import PrecisionConfig
from serving.engine import Engine
from serving.predict import predict_many
from serving.weights.latency import NOT_MEASURED, LatencyTable
from serving.weights.loader import Loader
from serving.weights.swap import Swap, SwapState
from tests.serving.versions import RECEIPTS, TinyPublisher, label_of, logits_of, model_of, plan_of, tokenizer
from tests.stores import plant_plan
from tests.waiting import eventually
from wire.config import StoreConfig
from wire.records import Event, PrecisionEvaluation, ReplicaReport
from wire.store import Store

AUTO = PrecisionConfig()


@pytest.fixture
def learner(store: Store) -> TinyPublisher:
    return TinyPublisher(store)


def swap_of(store: Store, engine: Engine, *, retry_s: float = 60.0, precision: PrecisionConfig = AUTO) -> Swap:
    def report() -> ReplicaReport:
        live = engine.live
        return ReplicaReport(
            replica="r1",
            revision=live.plan.revision if live else 0,
            versions=tuple(live.versions) if live else (),
            time_ms=1,
        )

    return Swap(
        store,
        Loader(store, tokenizer(), probe_tolerance=0.05),
        engine,
        precision=precision,
        refusal_retry_s=retry_s,
        report_interval_s=0.05,
        report=report,
    )


@pytest.fixture
def swap(store: Store, engine: Engine) -> Iterator[Swap]:
    swap = swap_of(store, engine)
    yield swap
    swap.close()


def served(engine: Engine) -> tuple[int, ...]:
    """Returns the revision, and the versions of the arms."""
    assert engine.live is not None
    return (engine.live.plan.revision, *engine.live.plan.versions)


def arms(engine: Engine) -> list[str]:
    assert engine.live is not None
    return [arm.name for arm in engine.live.plan.arms]


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


def test_a_refused_candidate_leaves_the_stable_version_answering(
    learner: TinyPublisher, swap: Swap, engine: Engine
) -> None:
    learner.publish(1)
    learner.plan(1)
    swap.follow_plan()
    learner.publish(2, model_spec="0" * 64)
    learner.plan(1, 2)
    swap.follow_plan()
    assert served(engine) == (2, 1)
    assert swap.refused == {"wrong_spec": 1}


def test_a_refused_stable_version_is_stood_in_for_by_what_was_live(
    learner: TinyPublisher, swap: Swap, engine: Engine
) -> None:
    learner.publish(1)
    learner.plan(1)
    swap.follow_plan()
    learner.publish(2, model_spec="0" * 64)
    learner.plan(2, previous=1)
    swap.follow_plan()
    assert served(engine) == (2, 1)
    assert arms(engine) == ["stand-in"]
    assert swap.refused == {"wrong_spec": 1}


def test_a_replica_that_starts_while_the_stable_version_is_not_stored_answers_with_the_version_before(
    learner: TinyPublisher, swap: Swap, engine: Engine, store_config: StoreConfig
) -> None:
    """B1: the replica had no weights, and answered 503, until an operator intervened."""
    learner.publish(1)
    learner.publish(2)
    plant_plan(store_config, plan_of(9, 2, previous=1))
    swap.follow_plan()
    assert served(engine) == (1, 1, 2)
    assert arms(engine) == ["stand-in", "candidate"]
    assert engine.live is not None and engine.live.stand_in == 1


def test_where_nothing_of_the_plan_can_be_had_the_newest_stored_version_that_loads_answers(
    learner: TinyPublisher, swap: Swap, engine: Engine, store_config: StoreConfig
) -> None:
    """B1: `up` could not start again."""
    for number in (1, 2):
        learner.publish(number)
    learner.publish(3, model_spec="0" * 64)
    plant_plan(store_config, plan_of(9, previous=8))
    for _ in range(3):
        swap.follow_plan()
    assert served(engine) == (1, 2)
    assert arms(engine) == ["stand-in"]
    assert swap.refused == {"not_found": 2, "wrong_spec": 1}


def test_the_stable_version_takes_its_place_back(
    learner: TinyPublisher, store: Store, engine: Engine, store_config: StoreConfig
) -> None:
    swap = swap_of(store, engine, retry_s=0.0)
    learner.publish(1)
    plant_plan(store_config, plan_of(2))
    swap.follow_plan()
    assert (served(engine), arms(engine)) == ((1, 1), ["stand-in"])
    learner.publish(2)
    swap.follow_plan()
    assert (served(engine), arms(engine)) == ((1, 2), ["stable"])
    assert set(swap.model_bytes) == {"2", "resident"}


def test_the_next_good_version_is_taken_after_a_bad_one(learner: TinyPublisher, swap: Swap, engine: Engine) -> None:
    learner.publish(1)
    learner.plan(1)
    learner.publish(2, config="{}")
    learner.plan(2, previous=1)
    swap.follow_plan()
    learner.publish(3)
    learner.plan(3, previous=1)
    swap.follow_plan()
    assert served(engine) == (3, 3)


def test_a_bad_version_is_counted_once_and_left_alone(learner: TinyPublisher, swap: Swap) -> None:
    learner.publish(1, config="{}")
    learner.plan(1)
    for _ in range(5):
        swap.follow_plan()
    assert swap.refused == {"wrong_config": 1}


def test_a_bad_version_is_looked_at_again_later(
    learner: TinyPublisher, store: Store, engine: Engine, store_config: StoreConfig
) -> None:
    swap = swap_of(store, engine, retry_s=0.0)
    plant_plan(store_config, plan_of(7))
    swap.follow_plan()
    assert swap.refused == {"not_found": 1}
    for number in range(1, 8):
        learner.publish(number)
    swap.follow_plan()
    assert served(engine) == (1, 7)
    assert swap.refused == {"not_found": 1}


def test_a_plan_under_another_key_changes_nothing(
    learner: TinyPublisher, swap: Swap, engine: Engine, store_config: Any
) -> None:
    learner.publish(1)
    learner.plan(1)
    swap.follow_plan()
    stranger = Store(store_config, b"another key")
    stranger.plans.write(plan_of(1, revision=2))
    stranger.close()
    swap.follow_plan()
    assert served(engine) == (1, 1)
    assert swap.refused == {"bad_signature": 1}


def stored(raw: Any, name: str) -> dict[bytes, bytes]:
    content: dict[bytes, bytes] = raw.hgetall(name)
    return content


def put_back(raw: Any, name: str, content: dict[bytes, bytes]) -> None:
    raw.delete(name)
    raw.hset(name, mapping=content)


def test_an_old_plan_that_is_put_back_is_refused_and_said_once(
    learner: TinyPublisher, swap: Swap, engine: Engine, raw: Any, key: Callable[..., str]
) -> None:
    """B23: the old plan was accepted, since its signature is valid."""
    learner.publish(1)
    learner.plan(1)
    old = stored(raw, key("plan"))
    learner.publish(2)
    learner.plan(2, previous=1)
    newest = stored(raw, key("plan"))
    swap.follow_plan()
    put_back(raw, key("plan"), old)
    for _ in range(3):
        swap.follow_plan()
    assert served(engine) == (2, 2)
    assert swap.refused == {"old_plan": 1}
    put_back(raw, key("plan"), newest)
    learner.plan(1)
    swap.follow_plan()
    assert served(engine) == (3, 1)


def test_after_a_wipe_the_first_plan_is_followed_and_numbers_mean_other_versions(
    learner: TinyPublisher, swap: Swap, engine: Engine, store: Store, raw: Any, key: Callable[..., str]
) -> None:
    learner.publish(1)
    learner.plan(1)
    learner.plan(1)
    swap.follow_plan()
    for name in raw.keys(key("*")):
        raw.delete(name)
    again = TinyPublisher(store)
    again.publish(1, encoder_seed=1)
    store.plans.write(msgspec.structs.replace(plan_of(1), salt="fresh"))
    swap.follow_plan()
    assert served(engine) == (1, 1)
    assert engine.live is not None
    assert logits_of(engine.live.versions[1].model, "hello") == logits_of(model_of(1, encoder_seed=1), "hello")


def damage(raw: Any, name: str) -> dict[bytes, bytes]:
    """Flips a bit of the blob `name`; returns the blob from before."""
    before = stored(raw, name)
    chunk = bytearray(before[b"0"])
    chunk[-1] ^= 1
    raw.hset(name, 0, bytes(chunk))
    return before


def test_damaged_blobs_are_reported_until_they_are_repaired(
    learner: TinyPublisher, swap: Swap, engine: Engine, raw: Any, key: Callable[..., str]
) -> None:
    """B14: damaged blobs were reported to nobody, and every half minute the version was fetched with all its blobs."""
    manifest = learner.publish(1)
    learner.plan(1)
    first, second = sorted(entry.digest for entry in manifest.tensors)[:2]
    before = damage(raw, key("blob", first))
    missing = stored(raw, key("blob", second))
    raw.delete(key("blob", second))
    swap.start()
    eventually(lambda: swap.damaged == (first, second))
    assert engine.live is None
    put_back(raw, key("blob", first), before)
    put_back(raw, key("blob", second), missing)
    learner.publish(2)  # a notice: whatever changed, it is looked at again
    eventually(lambda: engine.live is not None, within_s=2)
    assert served(engine) == (1, 1)
    assert swap.damaged == ()


def test_a_repair_costs_what_was_damaged(
    learner: TinyPublisher, swap: Swap, engine: Engine, raw: Any, key: Callable[..., str]
) -> None:
    manifest = learner.publish(1)
    learner.plan(1)
    name = key("blob", manifest.tensors[0].digest)
    before = damage(raw, name)
    swap.follow_plan()
    for entry in manifest.tensors[1:]:
        raw.delete(key("blob", entry.digest))
    put_back(raw, name, before)
    swap._refusals.retry_damaged()
    swap.follow_plan()
    assert served(engine) == (1, 1)


def test_nothing_is_taken_from_a_server_that_may_evict_weights(
    learner: TinyPublisher, swap: Swap, engine: Engine, setting: Any
) -> None:
    setting("maxmemory-policy", "allkeys-lru")
    learner.publish(1)
    learner.plan(1)
    swap.start()
    eventually(lambda: "maxmemory-policy" in swap._trouble)
    assert engine.live is None
    setting("maxmemory-policy", "noeviction")
    eventually(lambda: engine.live is not None)


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


def test_the_first_weights_come_when_the_store_does(store_config: Any, store: Store, engine: Engine) -> None:
    swap = swap_of(store, engine)
    swap.start()
    assert engine.live is None
    learner = TinyPublisher(store)
    learner.publish(1)
    learner.plan(1)
    eventually(lambda: engine.live is not None)
    swap.close()


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
    swap_of(store, engine, precision=PrecisionConfig(mode="int4")).follow_plan()
    assert latencies(engine) == [NOT_MEASURED]
