"""A real Apache Kafka with TLS, SASL and access control lists on one of its two listeners.

alice   may do everything         bob   has a password and no rights: `grant` gives him some
a certificate authority of the test signs the broker's certificate, and those of clients
"""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from kafka.admin import (  # type: ignore[import-untyped]
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)
from pydantic import SecretStr

from services.local import children
from services.local.kafka import HEAP, KAFKA_PROPERTIES, kafka_home
from services.local.logfile import RotatingLog
from tests.required import missing
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig
from wire.errors import BusUnavailable

PASSWORD = "alice-in-chains"
BOB_S = "bob-the-builder"
KEY_PASSWORD = "open-sesame"

SECURE = """\
listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl_ssl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="{password}" user_bob="{bob_s}";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="alice";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:alice;User:ANONYMOUS
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.client.auth=requested
ssl.truststore.type=PEM
ssl.truststore.location={authority}
"""


@dataclass(frozen=True)
class SecureBroker:
    config: BusConfig
    """Alice's, over the secure listener."""
    plain: str
    """The address of the other listener, which needs no name: the test's own administrator."""
    certificate: Path
    """A client's certificate."""
    key: Path
    """The certificate's key, encrypted by KEY_PASSWORD."""

    def bob(self, prefix: str) -> BusConfig:
        return replace(self.config, sasl_username="bob", sasl_password=SecretStr(BOB_S), prefix=prefix)

    def grant(self, name: str, kind: ResourceType, *operations: ACLOperation) -> None:
        """Lets bob do `operations` on the topics, groups or cluster whose names begin with `name`."""
        admin = KafkaAdminClient(bootstrap_servers=self.plain)
        pattern = ACLResourcePatternType.LITERAL if kind is ResourceType.CLUSTER else ACLResourcePatternType.PREFIXED
        resource = ResourcePattern(kind, name, pattern)
        admin.create_acls([ACL("User:bob", "*", each, ACLPermissionType.ALLOW, resource) for each in operations])
        admin.close()


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """Starts the broker, and waits until it answers alice."""
    home = kafka_home() if os.environ.get("KAFKA_HOME") else None
    if home is None:
        missing("kafka", "Apache Kafka: KAFKA_HOME is not set")
    folder = tmp_path_factory.mktemp("secure")
    authority = make_authority(folder)
    keystore = make_certificate(folder, "broker")
    certificate = make_certificate(folder, "client", password=KEY_PASSWORD)
    port = children.free_port()
    secure = children.free_port()
    controller = children.free_port()
    properties = folder / "server.properties"
    properties.write_text(
        KAFKA_PROPERTIES.format(port=port, controller=controller, logs=folder / "logs")
        + SECURE.format(
            port=port,
            secure=secure,
            controller=controller,
            password=PASSWORD,
            bob_s=BOB_S,
            keystore=keystore,
            authority=authority,
        )
    )
    broker = _start(home, folder, properties)
    config = BusConfig(
        bootstrap_servers=f"127.0.0.1:{secure}",
        security_protocol="SASL_SSL",
        sasl_username="alice",
        sasl_password=SecretStr(PASSWORD),
        ssl_cafile=authority,
    )
    eventually(lambda: _answers(config))
    key = folder / "client.key"
    yield SecureBroker(config=config, plain=f"127.0.0.1:{port}", certificate=certificate, key=key)
    broker.stop()


def make_authority(folder: Path) -> Path:
    """Makes a certificate authority in `folder`; returns its certificate."""
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=the test",
             "-keyout", f"{folder}/authority.key", "-out", f"{folder}/authority.pem")  # fmt: skip
    return folder / "authority.pem"


def make_certificate(folder: Path, name: str, *, password: str = "") -> Path:
    """Makes a certificate of 127.0.0.1 by the authority in `folder`; returns its file, which has the key, too.

    With a password the key is encrypted by it, and in a file of its own.
    """
    key = folder / f"{name}.key"
    request = folder / f"{name}.csr"
    found = folder / f"{name}.pem"
    encrypted = ["-passout", f"pass:{password}"] if password else ["-noenc"]
    _openssl("req", "-newkey", "rsa:2048", *encrypted, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", str(key), "-out", str(request))  # fmt: skip
    _openssl("x509", "-req", "-in", str(request), "-days", "2", "-copy_extensions", "copy",
             "-CA", f"{folder}/authority.pem", "-CAkey", f"{folder}/authority.key", "-out", str(found))  # fmt: skip
    if not password:
        found.write_text(key.read_text() + found.read_text())
    return found


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def _start(home: Path, folder: Path, properties: Path) -> children.Tethered:
    env = {"KAFKA_HEAP_OPTS": HEAP, "LOG_DIR": str(folder / "server")}
    cluster_id = uuid.uuid4().hex[:22]
    storage = [f"{home}/bin/kafka-storage.sh", "format", "--standalone", "-t", cluster_id, "-c", str(properties)]
    for name, password in (("alice", PASSWORD), ("bob", BOB_S)):
        for bits in (256, 512):
            storage += ["--add-scram", f"SCRAM-SHA-{bits}=[name={name},password={password}]"]
    subprocess.run(storage, env={**os.environ, **env}, check=True, capture_output=True)
    argv = [f"{home}/bin/kafka-server-start.sh", str(properties)]
    return children.Tethered(argv, log=RotatingLog(folder / "log"), env=env)


def _answers(config: BusConfig) -> bool:
    with closing(Bus(config, "secure")) as bus:
        try:
            bus.ping()
        except BusUnavailable:
            return False
        return True
