"""How the support stream is made. The script stands alone, so it is loaded by its path."""

import json
import random
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "support_stream.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_a_template_stands_for_every_choice_in_it(script: dict[str, Any]) -> None:
    text = "# words\nitem: lamp, rug\n\n[orders] cancel\n[|please ]cancel the [old [{item}]|box] .\n"
    lists, templates = script["parse"](text)
    (template,) = templates["orders", "cancel"]
    found = {script["expand"](template, lists, random.Random(seed)) for seed in range(200)}
    whole = {"cancel the old lamp.", "cancel the old rug.", "cancel the box."}
    assert found == whole | {f"please {sentence}" for sentence in whole}


def test_the_carried_files_are_what_it_makes(script: dict[str, Any]) -> None:
    for name, lines in script["streams"]().items():
        stored = (script["FOLDER"] / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in stored] == lines, f"{name}.jsonl: run {SCRIPT.name}"


def test_every_class_has_as_many_lines_and_no_text_comes_twice(script: dict[str, Any]) -> None:
    streams = script["streams"]()
    for name, lines in streams.items():
        counts = Counter(line["label"] for line in lines)
        assert set(counts.values()) == {script["NUM_BY_HAND"][name] + script["NUM_MADE"][name]}
        assert len(counts) == 48
    texts = [script["sorted_words"](line["text"]) for line in (*streams["train"], *streams["test"])]
    assert len(set(texts)) == len(texts)


def test_every_line_says_how_it_came_to_be(script: dict[str, Any]) -> None:
    for name, lines in script["streams"]().items():
        counts = Counter(line["kind"] for line in lines)
        assert counts == {
            "written one by one": 48 * script["NUM_BY_HAND"][name],
            "made of templates": 48 * script["NUM_MADE"][name],
        }
