"""`lifelong encoder check`."""

import json
from pathlib import Path

import pytest

from tests.model.published_encoder import WIDTH, write_encoder
from tests.services.command_line import lifelong


def test_check_says_what_an_encoder_is(tmp_path: Path) -> None:
    done = lifelong("encoder", "check", str(write_encoder(tmp_path, "roberta", pooling="cls")))
    assert done.returncode == 0, done.stderr
    assert "roberta: 2 layers of 64, 4 heads" in done.stdout
    assert "pooling cls, normalised, prefix ''" in done.stdout
    assert "no vectors to compare with" in done.stdout
    assert "int4" in done.stdout


def test_wrong_vectors_are_the_exit_code(tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.jsonl"
    vectors.write_text(json.dumps({"text": "where", "vector": [1.0] + [0.0] * (WIDTH - 1)}))
    done = lifelong("encoder", "check", str(write_encoder(tmp_path)), "--vectors", str(vectors), "--json")
    assert done.returncode == 78, done.stderr
    facts = json.loads(done.stdout)
    assert facts["is_right"] is False
    assert [each["name"] for each in facts["precisions"]] == ["fp32", "int8", "int4"]


@pytest.mark.parametrize(("content", "code"), [("{}", 2), ("", 2)])
def test_bad_vectors_are_a_usage_error(tmp_path: Path, content: str, code: int) -> None:
    vectors = tmp_path / "bad.jsonl"
    vectors.write_text(content)
    done = lifelong("encoder", "check", str(write_encoder(tmp_path)), "--vectors", str(vectors))
    assert done.returncode == code
    assert "bad.jsonl" in done.stderr


def test_what_is_not_said_is_refused_with_the_fix(tmp_path: Path) -> None:
    (write_encoder(tmp_path) / "modules.json").unlink()
    done = lifelong("encoder", "check", str(tmp_path))
    assert done.returncode == 78
    assert "modules.json is missing" in done.stderr
