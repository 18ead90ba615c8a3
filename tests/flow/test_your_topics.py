"""Plays docs/your-topics.md: foreign topics on a Kafka with SASL and TLS are answered and learnt from by settings.

Its file of settings and its commands are read from the page, with the addresses of the test in place of its own, and a
shell runs the commands as they are, all but the one that installs. How long it was from the first of them to the first
answer is printed, and in the report (`--junit-xml`).
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from services.versions import ROOT
from tests.flow.newcomer import without_ours
from tests.secure_brokers import PASSWORD, SecureBroker
from tests.services.stack_owner import Owner, owning
from tests.waiting import eventually

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = (ROOT / "docs" / "your-topics.md").read_text()
MESSAGES = "crm.messages"
RESOLUTIONS = "crm.resolutions"
ANSWERS = "lifelong.answers.v1"
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

TEXTS = {
    "delivery": ["where is my parcel?", "my package has not arrived", "the delivery is late", "track my shipment"],
    "billing": ["I was charged twice", "my invoice is wrong", "refund my payment", "the amount on the bill is off"],
}


def block(heading: str) -> str:
    """Returns the first indented block of a section of the page."""
    section = PAGE[PAGE.index(f"## {heading}") :]
    found = re.search(r"(?:^(?: {4}.*)?\n)*^ {4}.*\n(?:^(?: {4}.*)?\n)*", section, re.MULTILINE)
    assert found is not None
    return dedent(found.group())


@dataclass
class Desk:
    """The user's side: a folder with the file of settings, and plain clients of the topics."""

    folder: Path
    producer: Any
    consumer: Any
    answers: dict[int, dict[str, Any]]
    headers: dict[int, dict[str, bytes]]
    begun_s: float

    def ask(self, ticket: int, text: str) -> None:
        message = {"ticket_id": ticket, "body": text, "customer": ticket % 3}
        self.producer.send(MESSAGES, json.dumps(message).encode(), headers=[("traceparent", TRACE)]).get(60)

    def resolve(self, ticket: int, queue: str) -> None:
        message = {"ticket_id": ticket, "queue": queue, "agent": "eve"}
        self.producer.send(RESOLUTIONS, json.dumps(message).encode()).get(60)

    def answered(self, tickets: set[int]) -> bool:
        """Reads what was answered meanwhile; whether it is these tickets, at least."""
        for records in self.consumer.poll(200).values():
            for record in records:
                answer = json.loads(record.value)
                self.answers[int(answer["ticket_id"])] = answer
                self.headers[int(answer["ticket_id"])] = dict(record.headers)
        return tickets <= self.answers.keys()


@pytest.fixture(scope="module")
def desk(secure: SecureBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    admin = KafkaAdminClient(bootstrap_servers=secure.plain)
    one = {"num_partitions": 1, "replication_factor": 1}
    admin.create_topics({MESSAGES: one, RESOLUTIONS: one})
    admin.close()
    (folder / "password").write_text(f"{PASSWORD}\n")
    program = folder / ".venv" / "bin" / "lifelong"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m services.cli "$@"\n')
    program.chmod(0o755)
    settings = block("The file").replace("kafka-1:9093", secure.config.bootstrap_servers)
    settings = settings.replace("/run/secrets/kafka-password", str(folder / "password"))
    settings = settings.replace("/etc/ssl/kafka-ca.pem", str(secure.config.ssl_cafile))
    (folder / "lifelong.toml").write_text(settings)
    producer = KafkaProducer(bootstrap_servers=secure.plain)
    consumer = KafkaConsumer(bootstrap_servers=secure.plain, auto_offset_reset="earliest", group_id="crm")
    yield Desk(folder, producer, consumer, {}, {}, time.monotonic())
    producer.close()
    consumer.close()


@pytest.fixture(scope="module")
def up(desk: Desk) -> Iterator[Owner]:
    """Runs the commands of the page, the last of which goes on."""
    install, *commands, last = block("The commands").strip().splitlines()
    assert (install, last) == ("scripts/install.sh demo", ".venv/bin/lifelong up")
    assert (ROOT / "scripts" / "install.sh").exists()
    assert len(commands) <= 8
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=desk.folder, env=without_ours(), capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    desk.consumer.subscribe([ANSWERS])
    with owning(["sh", "-c", f"cd {desk.folder} && exec {last}"], desk.folder / "state") as owner:
        yield owner


def test_foreign_messages_are_answered_and_learnt_from(
    desk: Desk, up: Owner, record_property: Callable[[str, object], None]
) -> None:
    tickets = {ticket: label for ticket, label in enumerate(2 * ("delivery", "billing") * 2, 1)}
    for ticket, label in tickets.items():
        desk.ask(ticket, TEXTS[label][ticket % 4])
    eventually(lambda: desk.answered(set()) and bool(desk.answers))
    first_s = time.monotonic() - desk.begun_s
    print(f"from the first command to the first answer: {first_s:.1f} s")
    record_property("first_answer_s", round(first_s, 1))
    eventually(lambda: desk.answered(set(tickets)))
    assert desk.headers[1]["traceparent"] == TRACE
    assert desk.answers[1]["key"] == "1"
    for ticket, label in tickets.items():
        desk.resolve(ticket, label)
    eventually(lambda: up.learnt() >= len(tickets))
    number = 100

    def is_named() -> bool:
        nonlocal number
        number += 1
        desk.ask(number, "my parcel is still not here")
        eventually(lambda: desk.answered({number}))
        return bool(desk.answers[number]["queue"] == "delivery")

    eventually(is_named)
    assert desk.answers[number]["queue"] == desk.answers[number]["label"]


def test_a_message_that_does_not_fit_is_a_dead_letter_and_stops_nobody(desk: Desk, up: Owner) -> None:
    desk.producer.send(MESSAGES, b'{"ticket_id": 900, "bdy": "hello"}').get(60)
    desk.ask(901, "where is my parcel?")
    eventually(lambda: desk.answered({901}))
    assert 900 not in desk.answers
    letters = KafkaConsumer(
        "lifelong.deadletter.v1",
        bootstrap_servers=desk.consumer.config["bootstrap_servers"],
        auto_offset_reset="earliest",
        group_id=None,
    )
    found: list[dict[str, bytes]] = []

    def is_there() -> bool:
        found.extend(dict(record.headers) for records in letters.poll(200).values() for record in records)
        return bool(found)

    eventually(is_there)
    letters.close()
    assert found[0]["ce_origintopic"] == MESSAGES.encode()
    assert b"`body` is missing" in found[0]["ce_detail"] and b"Did you mean 'bdy'" in found[0]["ce_detail"]
