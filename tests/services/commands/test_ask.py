"""Asking over HTTP, and the line in which an answer is shown."""

import pytest

from services.commands.ask import NoAnswer, _answer_line, post
from services.local.tether import free_port
from tests.services.command_line import lifelong


def test_a_line_ends_with_the_id_that_a_label_needs() -> None:
    answer = {"label": "refund", "score": 0.914, "weights_version": 7, "arm": "stable", "event_id": "e-1"}
    assert _answer_line(answer) == "refund  0.91  version 7, stable  e-1"
    assert _answer_line({**answer, "label": None}).startswith("(nothing was learnt yet)  ")


def test_a_set_of_labels_is_shown_with_all_its_names() -> None:
    answer = {"label": None, "score": 0.914, "weights_version": 7, "arm": "stable", "event_id": "e-1"}
    assert _answer_line({**answer, "labels": ["refund", "urgent"]}).startswith("refund, urgent  0.91  version 7")
    assert _answer_line({**answer, "labels": []}).startswith("(none)  ")
    assert _answer_line({**answer, "value": 4.5}).startswith("4.5  ")


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        ("class", ["refund", "urgent"], "name one label: labels.kind is class"),
        ("class", ["--none"], "name one label: labels.kind is class"),
        ("score", ["many"], "name one number: labels.kind is score"),
        ("score", [], "name one number: labels.kind is score"),
        ("multilabel", [], "or give --none where it has none"),
        ("multilabel", ["refund", "--none"], "or give --none where it has none"),
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
