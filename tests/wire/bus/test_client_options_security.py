"""B9: tests an Apache Kafka with TLS, SASL and access control lists: every way in, and every way to be kept out."""

import base64
import json
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import pytest
from kafka.admin import ACLOperation, ResourceType  # type: ignore[import-untyped]
from pydantic import SecretStr

from services.topics import READS, WRITES, ProgramName, Records
from tests.brokers import take
from tests.secure_brokers import BOB_S, KEY_PASSWORD, PASSWORD, SecureBroker
from tests.waiting import eventually
from tests.wire.bus.traffic import events, ids, send
from tests.wire.samples import SAMPLES
from wire.bus import Bus
from wire.config import BusConfig, Option
from wire.errors import (
    BusRefused,
    BusUnauthenticated,
    BusUnauthorized,
    BusUnavailable,
    BusUntrusted,
    SendFailed,
    WireError,
)
from wire.records import Event, topic_name

pytestmark = pytest.mark.live

NO_SASL: dict[str, Any] = {"sasl_username": "", "sasl_password": None}


def opened(config: BusConfig, *, prefix: str) -> Bus:
    """Opens a bus with topics."""
    bus = Bus(replace(config, prefix=prefix), "secure")
    bus.create_topics()
    return bus


class Tokens:
    """Creates unsigned tokens, which a broker without an identity provider accepts."""

    def token(self) -> str:
        now_s = int(time.time())
        parts = ({"alg": "none"}, {"sub": "alice", "iat": now_s, "exp": now_s + 60})
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        return ".".join([*encoded, ""])


class NoTokens:
    """A provider without the method `token`."""


TOKENS = f"{__name__}:{Tokens.__name__}"
Mechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@pytest.mark.parametrize("mechanism", get_args(Mechanism))
def test_records_travel_encrypted(secure: SecureBroker, mechanism: Mechanism) -> None:
    config = replace(secure.config, sasl_mechanism=mechanism)
    with closing(opened(config, prefix=f"{mechanism}.")) as bus:
        send(bus.publisher(), *events(20))
        assert len(set(ids(take(bus.follow([Event], {}).poll, 20)))) == 20
        assert len(set(ids(take(bus.subscribe(Event, "readers").poll, 20)))) == 20


def test_tokens_of_the_user_s_own_are_shown(secure: SecureBroker) -> None:
    config = replace(secure.config, **NO_SASL, sasl_mechanism="OAUTHBEARER", sasl_oauth_token_provider=TOKENS)
    with closing(opened(config, prefix="tokens.")) as bus:
        send(bus.publisher(), *events(3))


@pytest.mark.parametrize("path", ["no.such:Tokens", f"{__name__}:Missing", f"{__name__}:{NoTokens.__name__}"])
def test_a_path_to_no_tokens_is_named(secure: SecureBroker, path: str) -> None:
    config = replace(secure.config, **NO_SASL, sasl_mechanism="OAUTHBEARER", sasl_oauth_token_provider=path)
    with pytest.raises(BusRefused, match=f"bus.sasl_oauth_token_provider: {path}"):
        Bus(config, "no tokens").ping()


def test_our_own_certificate_is_shown(secure: SecureBroker) -> None:
    ours = {"ssl_certfile": secure.certificate, "ssl_keyfile": secure.key, "ssl_password": SecretStr(KEY_PASSWORD)}
    with closing(opened(replace(secure.config, **ours), prefix="ours.")) as bus:  # type: ignore[arg-type]
        send(bus.publisher(), *events(3))


def test_options_of_the_library_s_own_are_passed_on(secure: SecureBroker) -> None:
    client: dict[str, Option] = {"compression_type": "gzip", "check_crcs": False, "connections_max_idle_ms": 60_000}
    config = replace(secure.config, client=client | {"ssl_ciphers": "ECDHE+AESGCM", "client_rack": "here"})
    with closing(opened(config, prefix="options.")) as bus:
        send(bus.publisher(), *events(3))
        assert len(take(bus.follow([Event], {}).poll, 3)) == 3


@pytest.mark.parametrize(
    ("change", "error", "fix"),
    [
        ({"sasl_password": SecretStr("not hers")}, BusUnauthenticated, "correct bus.sasl_username"),
        ({"sasl_mechanism": "GSSAPI", **NO_SASL}, BusUnauthenticated, "bus.sasl_mechanism"),
        ({"ssl_cafile": None}, BusUntrusted, "correct bus.ssl_cafile"),
        ({"security_protocol": "SSL", **NO_SASL}, BusUnavailable, "no Kafka broker answers"),
        ({"security_protocol": "PLAINTEXT", "ssl_cafile": None, **NO_SASL}, BusUnavailable, "no Kafka broker"),
        ({"bootstrap_servers": "127.0.0.1:1"}, BusUnavailable, "no Kafka broker answers at 127.0.0.1:1"),
    ],
    ids=["password", "mechanism", "certificate", "no password", "plain", "no broker"],
)
def test_who_does_not_belong_stays_out(
    secure: SecureBroker, change: dict[str, object], error: type[WireError], fix: str
) -> None:
    """Each cause has its own error class, and the message has the fix."""
    stranger = Bus(replace(secure.config, **change).with_client(request_timeout_ms=3_000), "stranger")  # type: ignore[arg-type]
    with pytest.raises(error, match=fix) as caught:
        stranger.ping()
    assert type(caught.value) is error
    assert PASSWORD not in str(caught.value)
    assert stranger._config.bootstrap_servers in str(caught.value)


def test_tls_where_the_broker_has_none_is_told(secure: SecureBroker) -> None:
    config = replace(secure.config, bootstrap_servers=secure.plain).with_client(request_timeout_ms=3_000)
    with pytest.raises(WireError, match=secure.plain):
        Bus(config, "stranger").ping()


def has_rights(bus: Bus, reads: Records, writes: Records) -> bool:
    """Whether no finding is wrong. Hidden settings are only a note."""
    return not any(finding.is_wrong for finding in bus.check_topics(reads, writes))


def test_without_rights_it_says_which_are_missing(secure: SecureBroker) -> None:
    opened(secure.config, prefix="rights.").close()
    with closing(Bus(secure.bob("rights."), "bob")) as bus:
        with pytest.raises(SendFailed, match=r"docs/connect\.md"):
            bus.publisher().send_all(events(1), 30)
        secure.grant("rights.", ResourceType.TOPIC, ACLOperation.WRITE, ACLOperation.READ)
        eventually(lambda: has_rights(bus, [Event], [Event]))  # rights are not everywhere at once
        with pytest.raises(BusUnauthorized, match=r"docs/connect\.md"):
            take(bus.subscribe(Event, "readers").poll, 1)
    assert BOB_S not in repr(secure.bob("rights."))


@pytest.mark.parametrize("program", get_args(ProgramName))
def test_the_rights_that_the_docs_list_are_enough(secure: SecureBroker, program: ProgramName) -> None:
    """docs/connect.md: a program reads, writes and commits with the rights to its own topics and its group alone."""
    prefix = f"{program}-alone."
    opened(secure.config, prefix=prefix).close()
    for record in READS[program]:
        secure.grant(topic_name(prefix, record), ResourceType.TOPIC, ACLOperation.READ)
    for record in WRITES[program]:
        secure.grant(topic_name(prefix, record), ResourceType.TOPIC, ACLOperation.WRITE)
    secure.grant(f"{prefix}serving", ResourceType.GROUP, ACLOperation.READ)
    with closing(Bus(secure.bob(prefix), program)) as bus:
        eventually(lambda: has_rights(bus, READS[program], WRITES[program]))
        bus.publisher().send_all([sample for sample in SAMPLES if type(sample) in WRITES[program]], 60)
        bus.follow(READS[program], {}).poll(100)
        if program == "serve":
            with closing(Bus(replace(secure.config, prefix=prefix), "client")) as client:
                send(client.publisher(), *events(3))
            subscription = bus.subscribe(Event, "serving")
            for received in take(subscription.poll, 3):
                subscription.finish(received.position)
            subscription.close()


def test_a_file_that_cannot_be_read_is_named(secure: SecureBroker, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(BusRefused, match=str(missing)):
        Bus(replace(secure.config, ssl_cafile=missing), "blind").ping()
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(BusRefused, match=str(broken)):
        Bus(replace(secure.config, ssl_certfile=broken), "blind").ping()
    with pytest.raises(BusRefused, match=r"bus\.ssl_password"):
        Bus(replace(secure.config, ssl_certfile=secure.certificate, ssl_keyfile=secure.key), "blind").ping()
