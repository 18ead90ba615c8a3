"""Asking and labelling over HTTP, with an API key and no other, and the line in which an answer is shown."""

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import urlsplit

import numpy as np
import pytest

from services.commands.ask import NoAnswer, _answer_line, post
from services.local.children import free_port
from serving.http.access import KeyFile, Role, create_key
from tests.lifelong.media.files import png, tone, wav
from tests.services.command_line import lifelong
from tests.serving.http.served_api import served_at
from tests.serving.kafka.fake_broker import FakeBroker
from tests.serving.versions import RECEIPTS
from wire.label_set import LabelConfig, LabelSet
from wire.records import Feedback

SHARED = {"LIFELONG_BUS__BOOTSTRAP_SERVERS": "127.0.0.1:1", "LIFELONG_STORE__URL": "redis://127.0.0.1:1/0"}
"""Shared servers: nobody here may reach them, and there is no key that signs."""


class Desk:
    """A service with API keys, and somebody who has one of them, or none."""

    def __init__(self, folder: Path) -> None:
        self.broker = FakeBroker()
        self.file = folder / "keys.json"
        self.keys = {role.value: create_key(self.file, f"{role.value} desk", [role], now_ms=5)[1] for role in Role}
        self.url = ""

    def ask(self, *words: str, role: str = "") -> "CompletedProcess[str]":
        key = {"LIFELONG_API_KEY": self.keys[role]} if role else {}
        port = str(urlsplit(self.url).port)
        return lifelong(*words, LIFELONG_SERVING__HTTP_PORT=port, **SHARED, **key)

    def labels(self) -> list[Feedback]:
        return [record for record, _ in self.broker.sent if isinstance(record, Feedback)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    listed = LabelSet(LabelConfig(mode="listed", allow=("refund", "delivery")))
    with served_at(desk.broker, keys=KeyFile(desk.file), labels=listed) as desk.url:
        yield desk


def test_an_api_key_is_enough_to_ask_and_to_label_and_its_name_is_the_source(desk: Desk) -> None:
    asked = desk.ask("predict", "--json", "where is my parcel", role="predict")
    assert asked.returncode == 0, asked.stderr
    (answer,) = json.loads(asked.stdout)
    proof = ("--receipt", answer["receipt"], "--event-source", "http")
    done = desk.ask("feedback", answer["event_id"], "delivery", *proof, role="feedback")
    assert (done.returncode, "sent to the learner" in done.stdout) == (0, True), done.stderr
    (label,) = desk.labels()
    assert (label.event_id, label.label, label.source) == (answer["event_id"], "delivery", "feedback desk")
    assert RECEIPTS.refusal(label, is_required=True, max_age_ms=1_000) == ""


def test_a_correction_needs_the_key_of_an_administrator_or_one_that_signs(desk: Desk) -> None:
    correction = ("feedback", "e-1", "refund", "--event-source", "http", "--correct")
    for role, said in (("feedback", "the role 'admin'"), ("", "an administrator's LIFELONG_API_KEY")):
        refused = desk.ask(*correction, role=role)
        assert (refused.returncode, said in refused.stderr) == (78, True), refused.stderr
    assert desk.ask(*correction, role="admin").returncode == 0
    (label,) = desk.labels()
    assert label.approval and RECEIPTS.refusal(label, is_required=True, max_age_ms=1_000) == ""


def test_the_files_of_a_picture_and_a_sound_are_one_event(desk: Desk, tmp_path: Path) -> None:
    picture, sound = tmp_path / "a.png", tmp_path / "a.wav"
    picture.write_bytes(png(np.zeros((28, 28), np.uint8)))
    sound.write_bytes(wav(tone(440, 0.1)))
    for files in (["--image", str(picture)], ["look", "--audio", str(sound), "--image", str(picture)]):
        asked = desk.ask("predict", *files, role="predict")
        assert (asked.returncode, "the encoder has no stem for 'image'" in asked.stdout) == (0, True), asked.stderr
    wrong: list[tuple[list[str], str]] = [
        ([], "give a TEXT"),
        (["a", "b", "--image", str(picture)], "at most one TEXT"),
    ]
    for texts, problem in wrong:
        refused = desk.ask("predict", *texts, role="predict")
        assert (refused.returncode, problem in refused.stderr) == (2, True), refused.stderr


@pytest.mark.parametrize(
    ("label", "role", "code", "said"),
    [
        ("refnud", "feedback", 2, "did you mean 'refund'?"),
        ("refund", "", 78, "LIFELONG_API_KEY"),
        ("refund", "predict", 78, "the role 'feedback'"),
    ],
)
def test_a_refused_label_says_why_in_one_line(desk: Desk, label: str, role: str, code: int, said: str) -> None:
    done = desk.ask("feedback", "e-1", label, role=role)
    assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (code, True, 1), done.stderr
    assert desk.labels() == []


def test_a_line_ends_with_the_id_that_a_label_needs() -> None:
    answer = {"label": "refund", "score": 0.914, "weights_version": 7, "arm": "stable", "event_id": "e-1"}
    assert _answer_line(answer) == "refund  0.91  version 7, stable  e-1"
    assert _answer_line({**answer, "label": None}).startswith("(nothing was learnt yet)  ")


def test_a_set_of_labels_is_shown_with_all_its_names() -> None:
    answer = {"label": None, "score": 0.914, "weights_version": 7, "arm": "stable", "event_id": "e-1"}
    assert _answer_line({**answer, "labels": ["refund", "urgent"]}).startswith("refund, urgent  0.91  version 7")
    assert _answer_line({**answer, "labels": []}).startswith("(none)  ")
    assert _answer_line({**answer, "value": 4.5}).startswith("4.5  ")
    output = {"kind": "interval", "low": 1.0, "high": 2.0}
    assert _answer_line({**answer, "output": output}).startswith('{"low": 1.0, "high": 2.0}  ')


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        ("class", ["refund", "urgent"], "a label is one name"),
        ("class", ["--none"], "a label is one name"),
        ("score", ["many"], "a score is a number; labels.kind is score"),
        ("score", [], "name the label of the event"),
        ("multilabel", [], "or give --none if no label"),
        ("multilabel", ["refund", "--none"], "or give --none if no label"),
    ],
)
def test_a_label_of_another_kind_says_what_to_name(kind: str, arguments: list[str], said: str) -> None:
    done = lifelong("feedback", "e-1", *arguments, LIFELONG_LABELS__KIND=kind)
    assert (done.returncode, said in " ".join(done.stderr.split())) == (2, True), done.stderr


def test_a_refused_text_is_a_line_that_says_why() -> None:
    assert _answer_line({"error": {"code": "blank", "message": "no text"}}) == "(refused)  blank: no text"


def test_where_nobody_listens_the_message_says_what_to_start() -> None:
    with pytest.raises(NoAnswer, match=r"did not answer: .*; is `lifelong up` running"):
        post(f"http://127.0.0.1:{free_port()}/v1/predict", {}, "")


def test_a_correction_names_the_source_of_its_event() -> None:
    done = lifelong("feedback", "e-1", "refund", "--correct")
    assert (done.returncode, "name the source of the event" in done.stderr) == (2, True), done.stderr
