"""B9: tests an Apache Kafka with TLS and SASL on one of its two listeners."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import pytest
from pydantic import SecretStr

from services.local import tether
from services.local.kafka import HEAP, KAFKA_PROPERTIES, kafka_home
from services.local.logfile import RotatingLog
from tests.brokers import take
from tests.required import missing
from tests.waiting import eventually
from tests.wire.bus.traffic import events, ids, send
from wire.bus import Bus
from wire.config import BusConfig
from wire.errors import BusRefused, BusUnavailable, WireError
from wire.records import Event

pytestmark = pytest.mark.live

PASSWORD = "alice-in-chains"
SECURE = """\
listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="{password}";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.client.auth={client_auth}
ssl.truststore.type=PEM
ssl.truststore.location={certificate}
"""


@dataclass(frozen=True)
class SecureBroker:
    config: BusConfig
    certificate: Path
    """The broker's self-signed certificate."""
    keystore: Path
    """The certificate with its private key."""


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    home = kafka_home() if os.environ.get("KAFKA_HOME") else None
    if home is None:
        missing("kafka", "Apache Kafka: KAFKA_HOME is not set")
    folder = tmp_path_factory.mktemp("secure")
    certificate, keystore = made_by_itself(folder)
    port, secure, controller = (tether.free_port() for _ in range(3))
    properties = folder / "server.properties"
    plain = KAFKA_PROPERTIES.format(port=port, controller=controller, logs=folder / "logs")
    properties.write_text(
        plain
        + SECURE.format(
            port=port,
            secure=secure,
            controller=controller,
            password=PASSWORD,
            keystore=keystore,
            certificate=certificate,
            client_auth="requested",
        )
    )
    env = {"KAFKA_HEAP_OPTS": HEAP, "LOG_DIR": str(folder / "server")}
    scram = [f"SCRAM-SHA-{bits}=[name=alice,password={PASSWORD}]" for bits in (256, 512)]
    storage = [f"{home}/bin/kafka-storage.sh", "format", "--standalone", "-t", cluster_id(), "-c", str(properties)]
    users = []
    for credentials in scram:
        users += ["--add-scram", credentials]
    subprocess.run([*storage, *users], env={**os.environ, **env}, check=True, capture_output=True, timeout=60)
    argv = [f"{home}/bin/kafka-server-start.sh", str(properties)]
    broker = tether.Tethered(argv, log=RotatingLog(folder / "log"), env=env)
    yield SecureBroker(
        config=BusConfig(
            bootstrap_servers=f"127.0.0.1:{secure}",
            security_protocol="SASL_SSL",
            sasl_username="alice",
            sasl_password=SecretStr(PASSWORD),
            ssl_cafile=certificate,
        ),
        certificate=certificate,
        keystore=keystore,
    )
    broker.stop()


def cluster_id() -> str:
    return uuid.uuid4().hex[:22]


def made_by_itself(folder: Path) -> tuple[Path, Path]:
    """Makes a self-signed certificate for 127.0.0.1; returns its file, and a file of it with its key."""
    key, certificate, keystore = (folder / f"{name}.pem" for name in ("key", "certificate", "keystore"))
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*request, *files], check=True, capture_output=True, timeout=60)
    keystore.write_text(key.read_text() + certificate.read_text())
    return certificate, keystore


def opened(config: BusConfig, *, prefix: str) -> Bus:
    """Opens a bus with topics, once the broker answers."""
    bus = Bus(replace(config, prefix=prefix), "secure")

    def is_there() -> bool:
        try:
            bus.create_topics()
        except BusUnavailable:
            return False
        return True

    eventually(is_there)
    return bus


Mechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@pytest.mark.parametrize("mechanism", get_args(Mechanism))
def test_records_travel_encrypted(secure: SecureBroker, mechanism: Mechanism) -> None:
    config = replace(secure.config, sasl_mechanism=mechanism)
    with closing(opened(config, prefix=f"{mechanism}.")) as bus:
        send(bus.publisher(), *events(20))
        assert len(set(ids(take(bus.follow([Event], {}).poll, 20)))) == 20
        assert len(set(ids(take(bus.subscribe(Event, "readers").poll, 20)))) == 20


def test_our_own_certificate_is_shown(secure: SecureBroker) -> None:
    with closing(opened(replace(secure.config, ssl_certfile=secure.keystore), prefix="ours.")) as bus:
        send(bus.publisher(), *events(3))


@pytest.mark.parametrize(
    "change",
    [
        {"sasl_password": SecretStr("not hers")},
        {"ssl_cafile": None},
        {"security_protocol": "SSL", "sasl_username": "", "sasl_password": None},
        {"security_protocol": "PLAINTEXT", "sasl_username": "", "sasl_password": None, "ssl_cafile": None},
    ],
    ids=["password", "certificate", "no password", "plain"],
)
def test_who_does_not_belong_stays_out(secure: SecureBroker, change: dict[str, object]) -> None:
    opened(secure.config, prefix="there.").close()
    stranger = Bus(replace(secure.config, **change, request_timeout_ms=3_000), "stranger")  # type: ignore[arg-type]
    with pytest.raises(WireError) as caught:
        stranger.ping()
    assert PASSWORD not in str(caught.value)
    assert secure.config.bootstrap_servers in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(secure: SecureBroker, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(BusRefused, match=str(missing)):
        Bus(replace(secure.config, ssl_cafile=missing), "blind").ping()
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(BusRefused, match=str(broken)):
        Bus(replace(secure.config, ssl_certfile=broken), "blind").ping()
