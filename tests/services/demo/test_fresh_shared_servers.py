"""Tests that a demo removes all its data from shared servers, however it ends, and no data of others."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka import OffsetAndMetadata, TopicPartition  # type: ignore[import-untyped]
from kafka.admin import ACLOperation, KafkaAdminClient, ResourceType  # type: ignore[import-untyped]
from kafka.errors import RetriableError  # type: ignore[import-untyped]

from learner.errors import DataError
from services.demo.fresh import FILE, fresh, note_servers, remove_abandoned, remove_from_servers
from services.local.supervisor import StackFailed
from services.programs import open_stores
from services.running import LOCK, claim
from services.settings import Settings, load, replaced
from tests.secure_brokers import SecureBroker
from tests.services.command_line import lifelong
from tests.services.test_running import folder_owner, settings_in
from tests.stores import SIGNING_KEY
from tests.waiting import eventually
from tests.wire.store.test_dump import filled
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.records import TOPIC_RECORDS, Event, topic_name

pytestmark = pytest.mark.live

on_kafka = pytest.mark.parametrize("broker", ["kafka"], indirect=True)


@pytest.fixture
def environ(bus_config: BusConfig, store_config: StoreConfig, tmp_path: Path) -> dict[str, str]:
    return {
        "LIFELONG_STATE_DIR": str(tmp_path),
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": bus_config.bootstrap_servers,
        "LIFELONG_BUS__PREFIX": bus_config.prefix,
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
    }


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    return load(file=Path(os.devnull), environ=environ | {"LIFELONG_TASKS": '{"urgency": {}}'}).settings


@pytest.fixture
def admin(bus_config: BusConfig) -> Iterator[Any]:
    with closing(KafkaAdminClient(bootstrap_servers=bus_config.bootstrap_servers)) as opened:
        yield opened


def make_all(settings: Settings, admin: Any) -> None:
    """Makes the data of a service: topics, a group with an offset, and keys of every kind in each task's store."""
    with closing(Bus(settings.bus, client_id="test")) as bus:
        bus.create_topics()
    place = TopicPartition(topic_name(settings.bus.prefix, Event), 0)
    group = f"{settings.bus.prefix}{settings.serving.group}"

    def has_offset() -> bool:
        with suppress(RetriableError):  # the first group of a broker waits for a topic of the broker's own
            admin.alter_group_offsets(group, {place: OffsetAndMetadata(0, "", -1)})
            return True
        return False

    eventually(has_offset)
    with ExitStack() as opened:
        for store in open_stores(settings, opened).values():
            filled(store)


def things(prefixes: Settings, admin: Any, raw: Any) -> list[str]:
    """Returns the names of all topics, groups and keys that begin with the prefixes."""
    groups: list[str] = []

    def are_listed() -> bool:
        try:
            groups.extend(group["group_id"] for group in admin.list_groups())
        # The coordinator still loads its groups.
        except RetriableError:
            return False
        return True

    eventually(are_listed)
    of_bus = [name for name in (*admin.list_topics(), *groups) if name.startswith(prefixes.bus.prefix)]
    return sorted([*of_bus, *(key.decode() for key in raw.scan_iter(match=f"{prefixes.store.prefix}*"))])


def neighbour(settings: Settings) -> Settings:
    """Returns the settings of another service, whose prefixes start with the prefixes of `settings`."""
    return replaced(
        settings,
        {"bus.prefix": f"{settings.bus.prefix[:-1]}0.", "store.prefix": f"{settings.store.prefix[:-1]}0:"},
    )


@on_kafka
@pytest.mark.parametrize("end", [None, KeyboardInterrupt, DataError, StackFailed])
def test_what_a_run_has_goes_however_it_ends_and_what_others_have_stays(
    settings: Settings, admin: Any, raw: Any, end: type[BaseException] | None
) -> None:
    make_all(settings, admin)
    before = things(settings, admin, raw)
    said: list[str] = []
    with suppress(KeyboardInterrupt, DataError, StackFailed), fresh(settings, say=said.append) as own:
        (own.state_dir / LOCK).touch()
        make_all(own, admin)
        make_all(neighbour(own), admin)
        theirs = things(neighbour(own), admin, raw)
        assert len(things(own, admin, raw)) == len(theirs) > len(TOPIC_RECORDS) + 2
        if end is not None:
            raise end
    eventually(lambda: things(own, admin, raw) == [])
    assert things(settings, admin, raw) == sorted([*before, *theirs])
    assert said == [] and not (own.state_dir / LOCK).exists()


def killed(settings: Settings, admin: Any) -> Settings:
    """Makes the folder and data of a demo that was killed; returns its settings."""
    with fresh(settings) as own:
        pass
    note_servers(own)
    (own.state_dir / LOCK).touch()
    make_all(own, admin)
    return own


@on_kafka
def test_what_a_killed_run_has_goes_with_the_command_and_not_while_it_lives(
    settings: Settings, environ: dict[str, str], admin: Any, raw: Any
) -> None:
    own = killed(settings, admin)
    has = things(own, admin, raw)
    lock = claim(own.state_dir)
    assert lock is not None
    with lock:
        assert lifelong("demo", "--clear", **environ).returncode == 0
    assert things(own, admin, raw) == has
    done = lifelong("demo", "--clear", **environ)
    assert (done.returncode, done.stdout) == (0, "")
    eventually(lambda: things(own, admin, raw) == [])
    assert not own.state_dir.exists()


@on_kafka
def test_what_lies_on_other_servers_stays_and_is_told_without_a_password(settings: Settings, admin: Any) -> None:
    own = killed(settings, admin)
    moved = replaced(settings, {"bus.bootstrap_servers": "127.0.0.1:1", "store.url": "redis://me:hush@127.0.0.1:1"})
    for run in (moved, replaced(moved, {"bus.bootstrap_servers": "", "store.url": ""})):
        said: list[str] = []
        assert not remove_abandoned(run, say=said.append)
        topics, keys = said
        assert f"topics {own.bus.prefix}*" in topics and own.bus.bootstrap_servers in topics
        assert f"keys {own.store.prefix}*" in keys and own.store.url in keys
        assert all("lifelong demo --clear" in text for text in said)
    assert (own.state_dir / FILE).exists()
    note_servers(replaced(moved, {"state_dir": own.state_dir}))
    assert "hush" not in (own.state_dir / FILE).read_text()
    topics, keys = remove_from_servers(own.state_dir, moved)
    assert "no Kafka broker answers" in topics and "Redis at redis://" in keys


def test_what_may_not_be_removed_is_told_and_stays_until_it_may(secure: SecureBroker, tmp_path: Path) -> None:
    bob = secure.bob("eu.")
    secure.grant("eu.demo-", ResourceType.TOPIC, ACLOperation.READ)
    settings = load(file=Path(os.devnull), environ={"LIFELONG_STATE_DIR": str(tmp_path)}).settings
    settings = settings.model_copy(update={"bus": bob})
    said: list[str] = []
    with fresh(settings, say=said.append) as own:
        (own.state_dir / LOCK).touch()
        theirs = replace(secure.config, prefix=own.bus.prefix)
        with closing(Bus(theirs, client_id="alice")) as bus:
            bus.create_topics()
        with closing(Bus(own.bus, client_id="bob")) as bus:
            eventually(lambda: not any(found.is_wrong for found in bus.check_topics([Event], [])))
    (text,) = said
    assert f"{own.bus.prefix}* and a consumer group" in text and "docs/connect.md" in text
    assert {path.name for path in own.state_dir.iterdir()} == {LOCK, FILE}
    assert remove_abandoned(settings.model_copy(update={"bus": secure.config}), say=said.append)
    assert not own.state_dir.exists() and len(said) == 1


def test_what_killed_demos_left_is_removed(tmp_path: Path) -> None:
    """B25, number 5: the folder of a running demo stays, and so do the logs of a failed demo."""
    for name in ("demo-1", "demo-2", "redis"):
        with folder_owner(tmp_path / name):
            pass
    (tmp_path / "demo-3" / "logs").mkdir(parents=True)
    with folder_owner(tmp_path / "demo-4"):
        assert remove_abandoned(settings_in(tmp_path), say=print)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo-3", "demo-4", "redis"]
