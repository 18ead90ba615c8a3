"""`lifelong export` and `lifelong import --model` say what they need; tests/flow/test_image_service.py runs them."""

from pathlib import Path

import pytest

from tests.services.command_line import lifelong


@pytest.mark.parametrize("words", [("export", "out"), ("import", "--model", "out")])
def test_they_need_a_service_that_runs(words: tuple[str, ...], tmp_path: Path) -> None:
    done = lifelong(*words, LIFELONG_STATE_DIR=str(tmp_path))
    assert done.returncode == 75, done.stderr
    assert not (tmp_path / "out").exists()


def test_an_import_names_a_file_or_a_model() -> None:
    done = lifelong("import")
    assert done.returncode == 2 and "name a FILE of labelled texts, or --model DIR" in done.stderr
