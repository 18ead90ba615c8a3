"""`lifelong topics create|check|grow|schema` on a real broker, and the check of a program's topics at its start."""

import json
from contextlib import closing
from dataclasses import replace

import pytest
from kafka.admin import ACLOperation, KafkaAdminClient, ResourceType  # type: ignore[import-untyped]

from services.topics import READS
from tests.secure_brokers import BOB_S, SecureBroker
from tests.services.command_line import lifelong
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import TOPIC_RECORDS, topic_name


def build_environ(config: BusConfig, **more: str) -> dict[str, str]:
    return {
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": config.bootstrap_servers,
        "LIFELONG_BUS__PREFIX": config.prefix,
        **more,
    }


@pytest.mark.live
@pytest.mark.parametrize("broker", ["tansu"], indirect=True)
def test_the_topics_are_created_and_what_exists_stays(bus_config: BusConfig) -> None:
    names = {topic_name(bus_config.prefix, record) for record in TOPIC_RECORDS}
    for created in (names, set()):
        done = lifelong("topics", "create", "--json", **build_environ(bus_config))
        assert done.returncode == 0, done.stderr
        assert set(json.loads(done.stdout)["created"]) == created
    with closing(KafkaAdminClient(bootstrap_servers=bus_config.bootstrap_servers)) as admin:
        assert names <= {*admin.list_topics()}


@pytest.mark.live
@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
def test_what_is_wrong_is_listed_and_mended(bus_config: BusConfig) -> None:
    environ = build_environ(bus_config)
    missing = lifelong("topics", "check", "--json", **environ)
    assert missing.returncode == 78
    assert {each["fix"] for each in json.loads(missing.stdout)} == {"lifelong topics create"}
    assert lifelong("topics", "create", **environ).returncode == 0
    fit = lifelong("topics", "check", **environ)
    assert (fit.returncode, "retention" in fit.stdout) == (0, True)
    more = build_environ(bus_config, LIFELONG_BUS__PARTITIONS="6")
    few = lifelong("topics", "check", **more)
    assert few.returncode == 78 and "Fix: lifelong topics grow" in few.stdout
    grown = lifelong("topics", "grow", "--json", **more)
    assert set(map(str, json.loads(grown.stdout).values())) == {"{'before': 4, 'now': 6}"}
    eventually(lambda: "6 partitions or more" in lifelong("topics", "grow", **more).stdout)
    eventually(lambda: lifelong("topics", "check", **more).returncode == 0)


@pytest.mark.live
def test_a_user_of_one_program_is_asked_for_its_rights_alone(secure: SecureBroker) -> None:
    prefix = "one-program."
    with closing(Bus(replace(secure.config, prefix=prefix), "alice")) as bus:
        bus.create_topics()
    for record in READS["rollout"]:
        secure.grant(topic_name(prefix, record), ResourceType.TOPIC, ACLOperation.READ)
    config = secure.bob(prefix)
    environ = build_environ(
        config,
        LIFELONG_BUS__SECURITY_PROTOCOL=config.security_protocol,
        LIFELONG_BUS__SASL_USERNAME="bob",
        LIFELONG_BUS__SASL_PASSWORD=BOB_S,
        LIFELONG_BUS__SSL_CAFILE=str(config.ssl_cafile),
    )
    eventually(lambda: lifelong("topics", "check", "--for", "rollout", **environ).returncode == 0)
    found = json.loads(lifelong("topics", "check", "--for", "rollout", "--json", **environ).stdout)
    assert {each["topic"] for each in found} == {topic_name(prefix, record) for record in READS["rollout"]}
    assert not any(each["is_wrong"] for each in found)
    other = lifelong("topics", "check", "--for", "learn", **environ)
    assert other.returncode == 78 and f"{prefix}feedback.v1: we may not write it" in other.stdout
    assert lifelong("topics", "check", **environ).returncode == 78


@pytest.mark.live
@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
@pytest.mark.parametrize("program", [("serve",), ("learn",), ("rollout", "run")])
def test_a_program_without_its_topics_ends_and_names_them(
    program: tuple[str, ...], bus_config: BusConfig, there: dict[str, str]
) -> None:
    done = lifelong(*program, **there | build_environ(bus_config, LIFELONG_INTERNAL='{"bus.topics_timeout_s": 0}'))
    assert done.returncode == 78
    assert f"{bus_config.prefix}answers.v1: it is missing" in done.stderr
    assert "Fix: lifelong topics create" in done.stderr


def test_a_broker_must_be_named_and_answer() -> None:
    done = lifelong("topics", "create")
    assert done.returncode == 78
    assert "bus.bootstrap_servers" in done.stderr
    gone = lifelong("topics", "create", LIFELONG_BUS__BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert gone.returncode == 75


def test_a_schema_is_printed() -> None:
    schema = json.loads(lifelong("topics", "schema", "event").stdout)
    assert [each["required"] for each in schema["anyOf"]] == [["text"], ["features"], ["parts"]]
    unknown = lifelong("topics", "schema", "letter")
    assert unknown.returncode == 2 and "event, answer, feedback, quarantined" in unknown.stderr
