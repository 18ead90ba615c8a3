"""Tests the list of a service's programs, and which of them are not ready yet."""

from contextlib import closing

from rollout.plans import begin
from services.programs import program_commands, unready_programs
from services.settings import Settings
from tests.stores import KEYS, build_manifest
from wire.config import StoreConfig
from wire.records import ReplicaReport
from wire.store import Store


def test_each_task_has_a_learner_and_a_rollout() -> None:
    commands = program_commands(Settings(tasks={"urgency": {}}))
    assert {name: (*command.words, command.task) for name, command in commands.items()} == {
        "serve": ("serve", ""),
        "learner": ("learn", ""),
        "rollout": ("rollout", "run", ""),
        "learner-urgency": ("learn", "urgency"),
        "rollout-urgency": ("rollout", "run", "urgency"),
    }


def test_one_program_pretrains_for_all_tasks() -> None:
    settings = Settings(tasks={"urgency": {}})
    more = program_commands(settings, pretrains=True).keys() - program_commands(settings).keys()
    assert more == {"domain"}


def test_what_is_waited_for_until_an_event_would_be_answered(store: Store) -> None:
    """Reports of an earlier stack are recognized by replica, not by time: a clock may be set while a stack starts."""

    def unready_now() -> str:
        return next(unready_programs({"": store}, replicas=1, earlier={"of the stack before"}), "")

    lease = store.leases.acquire("learner", "test", 60_000)
    assert lease is not None
    unready = [unready_now()]
    store.versions.publish(build_manifest(store, 1, epoch=lease.epoch), lease)
    unready.append(unready_now())
    store.plans.write(begin(1, salt="s", now_ms=1).plan)
    unready.append(unready_now())
    store.reports.write_replica(ReplicaReport(replica="of the stack before", revision=1, versions=(1,), time_ms=2_000))
    unready.append(unready_now())
    store.reports.write_replica(ReplicaReport(replica="ours", revision=0, versions=(), time_ms=1_000))
    unready.append(unready_now())
    store.reports.write_replica(ReplicaReport(replica="ours", revision=1, versions=(1,), time_ms=1_001))
    assert [*unready, unready_now()] == ["learner", "rollout", "serve", "serve", "serve", ""]


def test_a_replica_that_answers_with_a_stand_in_is_ready(store: Store) -> None:
    """B1: `up` could not start again while the stable version was missing."""
    lease = store.leases.acquire("learner", "test", 60_000)
    assert lease is not None
    store.versions.publish(build_manifest(store, 1, epoch=lease.epoch), lease)
    store.plans.write(begin(1, salt="s", now_ms=1).plan)
    store.reports.write_replica(ReplicaReport(replica="ours", revision=1, versions=(7,), time_ms=1_000, stand_in=7))
    assert not list(unready_programs({"": store}, replicas=1, earlier=set()))


def test_every_task_is_waited_for(store: Store, store_config: StoreConfig) -> None:
    with closing(Store(store_config, KEYS, task="urgency")) as of_task:
        stores = {"": store, "urgency": of_task}
        assert list(unready_programs(stores, replicas=1, earlier=set())) == ["learner", "learner-urgency"]
