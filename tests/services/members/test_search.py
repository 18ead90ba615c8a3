"""The search in its folder: it is deterministic, goes on after a kill, and its points can be trained and opened."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from learner.errors import DataError, StateRefused
from model.bert import load_encoder
from model.member import read_member
from services.members.search import PROXIES, SHORT, Search, SearchOptions, read_front, split_tasks
from services.versions import ROOT
from tests.services.members.small import write_small

WORDS = ("play", "stop", "song", "music", "rain", "weather", "today", "loud", "now", "please")


def write_task(folder: Path) -> str:
    """Writes a data set of two classes with sixty different texts, and returns its path."""
    folder.mkdir()
    texts = [f"{one} {other}" for one in WORDS for other in WORDS if one != other][:60]
    lines = [json.dumps({"text": text, "label": "sky" if "rain" in text else "other", "stage": "a"}) for text in texts]
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)


@pytest.fixture
def options(tmp_path: Path) -> SearchOptions:
    return SearchOptions(
        source=write_small(tmp_path / "source"),
        tasks=(write_task(tmp_path / "task"),),
        stored=0.8,
        budget=12,
        steps=3,
        batch=4,
        max_texts=30,
        checked=10,
        check_steps=1,
        retrain_steps=4,
    )


def silent(_: str) -> None:
    """Shows nothing."""


def started(options: SearchOptions, folder: Path) -> Search:
    return Search(options, data=None, state_dir=folder, say=silent)


def test_no_text_that_scores_is_learnt_from(options: SearchOptions) -> None:
    _, tokenizer = load_encoder(options.source)
    (split,), texts = split_tasks(options, None, tokenizer)
    learnt = {tuple(ids) for ids in texts.values()}
    held = {tuple(ids) for ids in split.held.token_ids}
    assert len(held) == 10 and len(split.fit.token_ids) == 20
    assert not held & learnt
    assert {tuple(ids) for ids in split.fit.token_ids} < learnt
    assert len(learnt) == 50


def test_a_task_without_enough_texts_is_refused(options: SearchOptions) -> None:
    _, tokenizer = load_encoder(options.source)
    with pytest.raises(DataError, match="has 1 training texts"):
        split_tasks(replace(options, max_texts=1), None, tokenizer)


def test_a_search_finds_the_same_front_again(options: SearchOptions, tmp_path: Path) -> None:
    first = started(options, tmp_path / "state").run()
    assert read_front(tmp_path / "state") == first
    assert first.points and all(point.share <= options.stored for point in first.points)
    assert first.taus.keys() == {*PROXIES, "parameters"}
    assert first.proxy in (*PROXIES, SHORT)
    assert 0 < first.accuracy <= 1
    times = (tmp_path / "state" / "search" / "layers.json").read_bytes()
    # Another folder with the same table of latencies.
    (tmp_path / "other" / "search").mkdir(parents=True)
    (tmp_path / "other" / "search" / "layers.json").write_bytes(times)
    assert started(options, tmp_path / "other").run() == first


KILLED = """
import os, signal, sys
from pathlib import Path
import msgspec
from services.members import search
from services.members.search import Search, SearchOptions

def say(line):
    if line.startswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

search.CHECKPOINT_S = 0.0
options = msgspec.json.decode(sys.argv[1], type=SearchOptions)
Search(options, data=None, state_dir=Path(sys.argv[2]), say=say).run()
"""


@pytest.mark.parametrize("moment", ["supernet: step 2 ", "comparing proxies: retrained 9 ", "search: encoder 7 "])
def test_a_killed_search_goes_on_to_the_same_front(options: SearchOptions, tmp_path: Path, moment: str) -> None:
    killed = tmp_path / "killed"
    words = [sys.executable, "-c", KILLED, msgspec.json.encode(options).decode(), str(killed), moment]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    said: list[str] = []
    found = Search(options, data=None, state_dir=killed, say=said.append).run()
    assert any(line.startswith("the supernet resumes after step") for line in said)
    (tmp_path / "whole" / "search").mkdir(parents=True)
    times = (killed / "search" / "layers.json").read_bytes()
    (tmp_path / "whole" / "search" / "layers.json").write_bytes(times)
    assert started(options, tmp_path / "whole").run() == found


def test_other_options_are_another_search(options: SearchOptions, tmp_path: Path) -> None:
    first = started(options, tmp_path)
    assert started(replace(options, budget=24, retrain_steps=9), tmp_path).key == first.key
    assert started(replace(options, seed=1), tmp_path).key != first.key


@pytest.mark.parametrize(("sparsity", "bits"), [(0.0, 8), (0.0, 4), (0.5, 8)])
def test_a_trained_point_opens_as_an_encoder(
    options: SearchOptions, tmp_path: Path, sparsity: float, bits: int
) -> None:
    search = started(options, tmp_path)
    genes = msgspec.structs.replace(search.space.largest, ffn=(0, 0, 2, 2), sparsity=sparsity, bits=bits)
    trained = search.train(genes)
    config = load_encoder(trained.folder)[0].config
    assert config.canonical_json() == search.space.config(genes).canonical_json()
    member = read_member(Path(trained.folder))
    assert member is not None
    steps = [step["step"] for step in member.history]
    expected = {(0.0, 8): ["distill"], (0.0, 4): ["quantize", "distill"], (0.5, 8): ["prune"]}[sparsity, bits]
    assert steps == ["search", *expected]
    assert trained.minutes > 0 and trained.megabytes > 0 and 0 <= trained.accuracy <= 1
    assert search.train(genes) == trained
    # Another process finds it, too.
    assert started(options, tmp_path).train(genes) == trained


def test_a_damaged_file_is_refused(options: SearchOptions, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    folder.mkdir()
    (folder / "front.json").write_text("{")
    with pytest.raises(StateRefused, match=r"front.json is damaged"):
        read_front(tmp_path)
    assert read_front(tmp_path / "empty") is None


def test_the_front_of_another_machine_is_ignored(options: SearchOptions, tmp_path: Path) -> None:
    front = started(options, tmp_path).run()
    path = tmp_path / "search" / "front.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(front, machine="another")))
    assert read_front(tmp_path) is None
