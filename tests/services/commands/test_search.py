"""`lifelong search`."""

import json
from pathlib import Path

import pytest

from services.members import search
from tests.services.command_line import lifelong
from tests.services.members.small import write_small
from tests.services.members.test_search import write_task


def test_a_search_prints_its_front_and_trains_a_point(tmp_path: Path) -> None:
    task = write_task(tmp_path / "task")
    source = write_small(tmp_path / "source")
    words = [
        *("search", "--source", source, "--task", task, "--stored", "0.8", "--budget", "4", "--steps", "2"),
        *("--max-texts", "30", "--batch", "2", "--retrain-steps", "2", "--checked", "5", "--check-steps", "1"),
        *("--set", f"state_dir={tmp_path}"),
    ]
    done = lifelong(*words)
    assert done.returncode == 0, done.stderr
    assert "Kendall's tau" in done.stdout and "  0 " in done.stdout
    assert "reading the texts" in done.stderr
    found = json.loads(lifelong(*words, "--train", "0", "--baselines", "--json").stdout)
    assert found["best"].keys() == {"search", "random", "uniform"}
    assert found["best"]["search"]["score"] == max(point["score"] for point in found["points"])
    (trained,) = found["trained"]
    assert trained["genes"] == found["points"][0]["genes"] and Path(trained["folder"]).exists()
    assert found["names"].keys() <= {"nano", "base"}
    shown = json.loads(lifelong("profile", "--json", "--set", f"state_dir={tmp_path}").stdout)
    named = {row["name"]: row["trained"] for row in shown if row["trained"]}
    assert {name for name, genes in found["names"].items() if genes == trained["genes"]} == named.keys()


@pytest.mark.parametrize(
    ("words", "message"), [(("--task", "nothing"), "nothing"), (("--stored", "0.011"), "the smallest stores")]
)
def test_what_cannot_be_searched_is_refused(tmp_path: Path, words: tuple[str, str], message: str) -> None:
    source = write_small(tmp_path / "source")
    state = f"state_dir={tmp_path}"
    done = lifelong("search", "--source", source, "--task", write_task(tmp_path / "task"), "--set", state, *words)
    assert done.returncode in (2, 78)
    assert message in done.stderr
    assert not (tmp_path / search.FOLDER / "front.json").exists()
