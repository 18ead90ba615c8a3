"""A swap that starts while the store is away answers with the versions that answered before."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.local.redis import start_redis
from serving.engine import Engine
from serving.observers import Counts
from serving.weights.disk import SAVE_S, DiskCache, FollowedPlan
from serving.weights.loader import Loader
from serving.weights.swap import Swap
from tests.serving.kafka.test_spool import full_disk
from tests.serving.pipelines import make_engine, make_queue
from tests.serving.versions import TinyPublisher, tokenizer
from tests.serving.weights.swaps import AUTO, make_swap, served
from tests.stores import KEYS
from tests.waiting import eventually
from wire.config import StoreConfig
from wire.errors import StoreUnavailable
from wire.store import Store
from wire.store.folder import FolderStore

Start = Callable[[StoreConfig], tuple[Swap, Engine]]


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "weights-"


@pytest.fixture
def away(store_config: StoreConfig) -> StoreConfig:
    return replace(store_config, url="redis://127.0.0.1:1/0", timeout_ms=100)


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts the swap of one more replica of the machine, whose store is at `config`."""
    started: list[tuple[Swap, Store, DiskCache]] = []

    def start_one(config: StoreConfig) -> tuple[Swap, Engine]:
        store = Store(config, KEYS)
        cache = DiskCache(FolderStore(folder, config, KEYS))
        engine = make_engine(make_queue(100), Counts())
        swap = make_swap(store, engine, followed=FollowedPlan(str(folder.parent), cache=cache))
        started.append((swap, store, cache))
        swap.start()
        return swap, engine

    yield start_one
    for swap, store, cache in started:
        swap.close()
        cache.close()
        store.close()


def served_by(store: Store, replica: str) -> bool:
    """Whether the store answers, and has the report of this replica."""
    try:
        return any(report.replica == replica for report in store.reports.replicas())
    except StoreUnavailable:
        return False


def is_saved(folder: Path, config: StoreConfig, revision: int) -> bool:
    """Whether a plan of this revision is saved, whole."""
    copy = FolderStore(folder, config, KEYS)
    plan = copy.plans.read()
    copy.close()
    return plan is not None and plan.revision == revision


def test_a_start_while_redis_is_dead_answers_as_before_and_follows_redis_when_it_is_back(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    server = start_redis(tmp_path / "redis")
    config = StoreConfig(url=server.url, poll_interval_ms=50)
    store = Store(config, KEYS)
    learner = TinyPublisher(store)
    learner.publish(1)
    learner.publish(2)
    learner.plan(1, 2)
    before, _ = start(config)
    eventually(lambda: is_saved(folder, config, 1))
    before.close()
    server.process.kill()
    server.process.wait()
    swap, engine = start(config)
    assert swap.await_first(60.0)
    assert served(engine) == (1, 1, 2) and swap.refused == {}
    server.start_again()
    eventually(lambda: served_by(store, "r1"))
    learner.publish(3)
    learner.plan(3, previous=1)
    eventually(lambda: served(engine) == (2, 3))
    swap.close()
    store.close()
    server.stop()


def test_what_is_not_ours_or_damaged_is_not_served(
    learner: TinyPublisher, start: Start, store_config: StoreConfig, away: StoreConfig, folder: Path
) -> None:
    learner.publish(1)
    learner.plan(1)
    before, _ = start(store_config)
    eventually(lambda: is_saved(folder, store_config, 1))
    before.close()
    other, engine_of_other = start(replace(away, prefix="of another service:"))
    assert not other.await_first(1.0) and engine_of_other.live is None
    for path in folder.glob("blob:*"):
        path.write_bytes(path.read_bytes()[:-1])
    damaged, engine = start(away)
    assert not damaged.await_first(1.0) and engine.live is None
    # Blobs that are damaged on the disk are not reported: the learner would look for damage in the store.
    assert damaged.damaged == () and damaged.refused == {}


def test_without_the_candidate_the_stable_version_answers(
    learner: TinyPublisher, start: Start, store_config: StoreConfig, away: StoreConfig, folder: Path
) -> None:
    learner.publish(1)
    learner.publish(2)
    learner.plan(1, 2)
    before, _ = start(store_config)
    eventually(lambda: is_saved(folder, store_config, 1))
    before.close()
    (folder / "manifest:2").unlink()
    swap, engine = start(away)
    assert swap.await_first(30.0)
    assert served(engine) == (1, 1)


def test_a_full_disk_stops_no_answer_and_is_tried_again(
    learner: TinyPublisher, store: Store, engine: Engine, folder: Path, store_config: StoreConfig
) -> None:
    clock = Clock()
    copy = FolderStore(folder, store_config, KEYS)
    cache = DiskCache(copy, clock=clock)
    swap = make_swap(store, engine, followed=FollowedPlan(cache=cache))
    learner.publish(1)
    learner.plan(1)
    with full_disk(100), capture_logs() as lines:
        swap.follow_plan()
    assert served(engine) == (1, 1) and copy.plans.read() is None
    assert [line["reason"] for line in lines if line["event"] == "weights_not_cached"] == ["[Errno 27] File too large"]
    swap.follow_plan()
    assert copy.plans.read() is None
    clock.now_s = SAVE_S
    swap.follow_plan()
    assert copy.plans.read() == store.plans.read()
    cache.close()


def test_plans_that_come_fast_are_saved_now_and_then(
    learner: TinyPublisher, store: Store, engine: Engine, folder: Path, store_config: StoreConfig
) -> None:
    clock = Clock()
    copy = FolderStore(folder, store_config, KEYS)
    cache = DiskCache(copy, clock=clock)
    swap = make_swap(store, engine, followed=FollowedPlan(cache=cache))
    saved: list[int] = []
    for number in (1, 2, 3):
        learner.publish(number)
        learner.plan(number)
        swap.follow_plan()
        plan = copy.plans.read()
        saved.append(plan.revision if plan else 0)
        clock.now_s += 0.6 * SAVE_S
    assert saved == [1, 1, 3]
    assert {path.name for path in folder.glob("manifest:*")} == {"manifest:3"}
    cache.close()


def test_it_loads_once_and_without_a_folder_nothing(store: Store, folder: Path, store_config: StoreConfig) -> None:
    loader = Loader(store, tokenizer(), precision=AUTO, probe_tolerance=0.05)
    assert DiskCache().load(loader) is None
    cache = DiskCache(FolderStore(folder, store_config, KEYS))
    assert cache.load(loader) is None
    assert cache.load(loader) is None
    cache.close()
