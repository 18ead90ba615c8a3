"""Connecting to a Redis server: TLS, accounts with few rights, Sentinels, and refusals with their fix."""

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from services.local.children import free_port
from services.local.redis import LocalRedis, find_binary, read_version, start_redis
from tests.required import missing
from tests.secure_brokers import KEY_PASSWORD, make_authority, make_certificate
from tests.stores import KEYS, build_manifest, take_lease
from tests.waiting import eventually
from tests.wire.store.test_reports import make_report
from wire.config import StoreConfig
from wire.errors import StoreRefused, StoreUnavailable
from wire.records import RolloutPlan
from wire.store import Store
from wire.store.keys import REPLICA, WRITER, account_rules
from wire.store.server import URL_FORMS

PASSWORD = "open, sesame"


@dataclass(frozen=True)
class Secure:
    """A server that has only TLS and asks for certificates, and two accounts on it."""

    config: StoreConfig
    folder: Path

    def account(self, name: str, *, password: str = PASSWORD) -> StoreConfig:
        return replace(self.config, username=name, password=SecretStr(password))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    if read_version(find_binary()) < "7":
        missing("redis8", "Redis 7 or newer, with TLS: an account that may only read some keys")
    folder = Path(tmp_path_factory.mktemp("tls"))
    authority = make_authority(folder)
    certificate = make_certificate(folder, "redis")
    ours = make_certificate(folder, "client", password=KEY_PASSWORD)
    port = free_port()
    server = start_redis(
        folder / "redis",
        options={
            "tls-port": [str(port)],
            "tls-cert-file": [str(certificate)],
            "tls-key-file": [str(certificate)],
            "tls-ca-cert-file": [str(authority)],
            "appendonly": ["no"],
            "aclfile": [str(accounts(folder / "users.acl"))],
        },
    )
    config = StoreConfig(
        url=f"rediss://127.0.0.1:{port}",
        prefix="ours:",
        ssl_cafile=authority,
        ssl_certfile=ours,
        ssl_keyfile=folder / "client.key",
        ssl_password=SecretStr(KEY_PASSWORD),
    )
    yield Secure(config, folder)
    server.stop()


def accounts(path: Path) -> Path:
    """Writes the accounts that docs/connect.md shows, for the prefix `ours:`; returns the file."""
    path.write_text("user default on nopass ~* &* +@all\n" + account_rules(PASSWORD, PASSWORD, prefix="ours:"))
    return path


def test_a_replica_s_account_reads_weights_and_writes_its_own_report_alone(secure: Secure) -> None:
    with (
        closing(Store(secure.account(WRITER), KEYS)) as learner,
        closing(Store(secure.account(REPLICA), KEYS)) as replica,
    ):
        learner.check_policy()
        replica.check_policy()
        watch = replica.watch()
        manifest = build_manifest(learner, 1, epoch=1)
        learner.versions.publish(manifest, take_lease(learner))
        learner.plans.write(RolloutPlan(revision=1, salt="", arms=()))
        assert watch.wait(10)
        assert replica.versions.manifest(1) == manifest
        assert replica.plans.read() is not None and replica.versions.stored() == [1]
        tensor = manifest.tensors[0]
        assert len(replica.blobs.get(tensor.digest, tensor.num_bytes)) == tensor.num_bytes
        replica.reports.write_replica(make_report("a"))
        assert [report.replica for report in learner.reports.replicas()] == ["a"]
        for forbidden in (
            lambda: replica.plans.write(RolloutPlan(revision=2, salt="", arms=())),
            lambda: replica.blobs.put(b"weights of nobody"),
            lambda: replica.leases.acquire("learner", "a replica", 1_000),
        ):
            with pytest.raises(StoreRefused, match="denies us a right"):
                forbidden()
        watch.close()


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ({"username": WRITER, "password": SecretStr("wrong")}, "correct store.username and store.password"),
        ({"username": "nobody", "password": SecretStr("wrong")}, "correct store.username and store.password"),
        ({"ssl_cafile": None}, "correct store.ssl_cafile"),
    ],
    ids=["password", "account", "authority"],
)
def test_who_does_not_belong_is_told_what_to_mend(secure: Secure, change: dict[str, object], fix: str) -> None:
    with closing(Store(replace(secure.config, **change), KEYS)) as store:  # type: ignore[arg-type]
        with pytest.raises(StoreRefused, match=fix) as caught:
            store.versions.current()
        assert "wrong" not in str(caught.value).replace("WRONGPASS", "")


def test_without_a_certificate_of_ours_the_server_hangs_up(secure: Secure) -> None:
    config = replace(secure.config, ssl_certfile=None, ssl_keyfile=None, ssl_password=None)
    with closing(Store(config, KEYS)) as store, pytest.raises(StoreUnavailable):
        store.versions.current()


def test_a_cluster_is_refused_by_name(tmp_path: Path) -> None:
    server = start_redis(
        tmp_path, options={"cluster-enabled": ["yes"], "port": [str(free_port())], "appendonly": ["no"]}
    )
    try:
        with closing(Store(StoreConfig(url=server.url), KEYS)) as store:
            for attempt in (store.check_policy, lambda: store.blobs.put(b"weights")):
                with pytest.raises(StoreRefused, match="Redis Cluster"):
                    attempt()
    finally:
        server.stop()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[str]:
    """Starts a master, a replica of it and a Sentinel; returns the address of the service that the Sentinel watches."""
    ports = [free_port(), free_port(), free_port()]
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {ports[2]}\nbind 127.0.0.1\nsentinel monitor weights 127.0.0.1 {ports[0]} 1\n"
        "sentinel down-after-milliseconds weights 500\nsentinel failover-timeout weights 2000\n"
    )
    plain = {"appendonly": ["no"], "rename-command": ["CONFIG", "CONFIG"], "bind": ["127.0.0.1"]}
    of_replica = {"replicaof": ["127.0.0.1", str(ports[0])], "repl-diskless-sync-delay": ["0"]}
    started = [
        start_redis(tmp_path / "one", options={**plain, "port": [str(ports[0])], "repl-diskless-sync-delay": ["0"]}),
        start_redis(tmp_path / "two", options={**plain, "port": [str(ports[1])], **of_replica}),
        start_sentinel(tmp_path, config),
    ]
    eventually(lambda: sees_replica(ports[2]))
    yield f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{ports[2]}/weights/0"
    for server in started:
        server.stop()


def start_sentinel(folder: Path, config: Path) -> "LocalRedis":
    from services.local.children import Tethered
    from services.local.logfile import RotatingLog

    return Tethered([find_binary(), str(config), "--sentinel"], log=RotatingLog(folder / "sentinel.log"))  # type: ignore[return-value]


def sees_replica(port: int) -> bool:
    """Whether the Sentinel could promote a replica."""
    with redis.Redis(port=port, protocol=2) as client, suppress(redis.RedisError):
        known = client.execute_command("SENTINEL", "REPLICAS", "weights")
        return bool(known) and "'master-link-status': 'ok'" in repr(known).replace("b'", "'").replace("', '", "': '")
    return False


def test_the_master_of_the_moment_is_asked(watched: str) -> None:
    """A Sentinel that is away is passed over, and after a failover the new master answers."""
    with closing(Store(StoreConfig(url=watched, timeout_ms=2_000), KEYS)) as store:
        store.check_policy()
        store.versions.publish(build_manifest(store, 1, epoch=1), take_lease(store))
        sentinel = watched.split(",")[1].split("/")[0]
        host, port = sentinel.split(":")
        with redis.Redis(host=host, port=int(port), protocol=2) as client:
            before = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "weights")
            client.execute_command("SENTINEL", "FAILOVER", "weights")
            eventually(lambda: client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "weights") != before)

        def learns_again() -> bool:
            with suppress(StoreUnavailable):
                store.blobs.put(b"after the failover")
                return store.versions.current() == 1
            return False

        eventually(learns_again)


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://one/weights", "redis+sentinel://one:26379", "redis+sentinel://me:secret@one:26379/weights"],
)
def test_an_address_of_sentinels_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="store url") as caught:
        Store(StoreConfig(url=url), KEYS)
    assert URL_FORMS in str(caught.value) and "secret" not in str(caught.value)
