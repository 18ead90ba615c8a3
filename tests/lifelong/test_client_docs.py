"""Runs the examples of docs/client.md in order, and the example of the README, against a running service."""

import re
from typing import Any

import pytest

from lifelong import Feedback
from services.versions import ROOT
from tests.serving.kafka.fake_broker import FakeBroker
from tests.serving.versions import label_of

EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"


def test_the_examples_do_what_they_say(url: str, fake_broker: FakeBroker, capsys: pytest.CaptureFixture[str]) -> None:
    examples = EXAMPLE.findall((ROOT / "docs" / "client.md").read_text())
    assert len(examples) == 4
    variables: dict[str, Any] = {}
    for example in examples:
        assert ADDRESS in example
        exec(example.replace(ADDRESS, url), variables)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{label_of(1, 'where is my parcel')} ")
    assert printed[-1] == "wrong_schema: `text` is blank, and there are no `features`"
    assert variables["labels"] == [label_of(1, text) for text in ("where is my parcel", "I lost my card")]
    labels = [record.label for record, _ in fake_broker.sent if isinstance(record, Feedback)]
    assert labels == ["lost_parcel", "lost_card", "lost", "lost"]


def test_the_example_of_the_readme_asks_labels_and_asks_again(
    url: str, fake_broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = EXAMPLE.findall((ROOT / "README.md").read_text())
    assert ADDRESS in example
    exec(example.replace(ADDRESS, url), {})
    # There is no learner, so the second answer is the same.
    answers = [f"{label_of(1, 'where is my parcel')} 1"] * 2
    assert capsys.readouterr().out.splitlines() == answers
    assert [record.label for record, _ in fake_broker.sent if isinstance(record, Feedback)] == ["lost_parcel"]
