"""The command that pretrains: cached by its key, gone on with after a kill, opened like any encoder."""

import dataclasses
import json
import random
import threading
from pathlib import Path

import pytest
import torch

from evals.streams.stream import StreamItem
from evals.streams.text_sets import TextSet
from learner.errors import DataError
from lifelong.compress.pretrain import Mix, MixOptions
from model.encoders import open_encoder
from model.errors import WrongConfig
from model.member import read_member
from model.strata import Strata
from model.tokenizer import TextTokenizer
from services.commands.pretrain import DEFAULT_MIX, parse_mix
from services.members.pretrain import FewShotProbe, PretrainRequest, Stopped, pretrain, texts_of_files
from services.members.texts import Limits, Selected, select
from tests.lifelong.compress.members import DENSE, changed, dense_strata
from tests.services.command_line import lifelong
from tests.services.members.small import CONFIG, tokenizer_json, write_lines, write_small

OPTIONS = MixOptions(tokens=600, batch_tokens=60, max_tokens=20)
SHAPE = dataclasses.replace(DENSE, vocab=300, embed_dim=16, n_layers=2)
REQUEST = PretrainRequest(shape=SHAPE, every_s=0)


def silent(_: str) -> None:
    """Shows nothing."""


@pytest.fixture
def selected(tmp_path: Path) -> Selected:
    words = ("play", "stop", "song", "music", "rain", "today", "loud", "now")
    rng = random.Random(3)
    lines = tmp_path / "texts.txt"
    lines.write_text("\n".join(" ".join(rng.choices(words, k=rng.randint(2, 7))) for _ in range(40)) + "\n")
    return select(texts_of_files([str(lines)], None), Limits())


def list_files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.suffix != ".json"} | {
        "config.json": (Path(folder) / "config.json").read_bytes()
    }


def test_an_encoder_is_trained_once_and_opens(tmp_path: Path, selected: Selected) -> None:
    said: list[str] = []
    first = pretrain(selected, REQUEST, OPTIONS, data=None, state_dir=tmp_path, say=said.append)
    assert first.is_new and said[-1].startswith("step 10 of 10: ") and said[-1].endswith("0 min left")
    again = pretrain(selected, REQUEST, OPTIONS, data=None, state_dir=tmp_path, say=silent)
    assert not again.is_new and again.fields() == first.fields() | {"is_new": False}
    whole, inputs = open_encoder(first.folder)
    assert isinstance(whole, Strata) and whole.config == SHAPE
    assert len(inputs.encode_many(["play the music now"])[0]) > 2
    member = read_member(Path(first.folder))
    assert member is not None and member.history[-1]["step"] == "pretrain"
    assert {path.name for path in (tmp_path / "encoders").iterdir()} == {Path(first.folder).name}


@pytest.mark.parametrize("killed_after", [1, 7])
def test_a_killed_training_goes_on_to_the_same_files(tmp_path: Path, selected: Selected, killed_after: int) -> None:
    whole = pretrain(selected, REQUEST, OPTIONS, data=None, state_dir=tmp_path / "whole", say=silent)

    class Killed(Exception):
        """Stands for the end of the process."""

    def kill(line: str) -> None:
        if line.startswith(f"step {killed_after + 1} "):
            raise Killed

    with pytest.raises(Killed):
        pretrain(selected, REQUEST, OPTIONS, data=None, state_dir=tmp_path / "killed", say=kill)
    said: list[str] = []
    found = pretrain(selected, REQUEST, OPTIONS, data=None, state_dir=tmp_path / "killed", say=said.append)
    assert f"resuming after step {killed_after}" in said
    assert list_files(found.folder) == list_files(whole.folder)


def test_a_stopped_training_ends_after_its_step_and_goes_on(tmp_path: Path, selected: Selected) -> None:
    stop = threading.Event()
    said: list[str] = []

    def stopping(line: str) -> None:
        said.append(line)
        if line.startswith("step 4 "):
            stop.set()

    request = dataclasses.replace(REQUEST, every_s=600)
    with pytest.raises(Stopped, match="step 4 of 10"):
        pretrain(selected, request, OPTIONS, data=None, state_dir=tmp_path / "stopped", say=stopping, stop=stop)
    made = pretrain(selected, request, OPTIONS, data=None, state_dir=tmp_path / "stopped", say=said.append)
    whole = pretrain(selected, request, OPTIONS, data=None, state_dir=tmp_path / "whole", say=silent)
    assert [line.split(":")[0] for line in said].count("step 5 of 10") == 1
    assert list_files(made.folder) == list_files(whole.folder)


def test_from_an_encoder_the_upper_layers_learn(tmp_path: Path, selected: Selected) -> None:
    base = pretrain(selected, REQUEST, OPTIONS, data=None, state_dir=tmp_path, say=silent)
    request = dataclasses.replace(REQUEST, encoder=base.folder)
    options = dataclasses.replace(OPTIONS, first_layer=1, mix=Mix(1, 0, 1, 0))
    made = pretrain(selected, request, options, data=None, state_dir=tmp_path, say=silent)
    before, after = (open_encoder(each.folder)[0].state_dict() for each in (base, made))
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed and all(name.startswith("layers.1.") for name in changed)
    member = read_member(Path(made.folder))
    assert member is not None and [step["step"] for step in member.history] == ["pretrain", "pretrain"]


def test_an_encoder_without_a_mask_token_is_refused(tmp_path: Path, selected: Selected) -> None:
    request = dataclasses.replace(REQUEST, encoder=write_small(tmp_path / "small"))
    with pytest.raises(WrongConfig, match="no mask token"):
        pretrain(selected, request, OPTIONS, data=None, state_dir=tmp_path, say=silent)


def test_the_probe_scores_an_encoder_that_separates_the_classes_higher() -> None:
    items = [StreamItem(f"{word} {other}", word) for word in ("play", "rain") for other in ("now", "loud", "today")]
    tokenizer = TextTokenizer(tokenizer_json())
    score = FewShotProbe([TextSet("words", items, items)], tokenizer, shots=2)
    strata = dense_strata(CONFIG)
    blind = changed(strata, embed__word__weight=torch.zeros_like(strata.embed.word.weight))
    assert score(blind) <= 50 < score(strata)


def test_no_texts_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no texts to train on"):
        pretrain(select([], Limits()), REQUEST, OPTIONS, data=None, state_dir=tmp_path, say=silent)


def test_the_command_shows_the_counts_and_the_curve(tmp_path: Path, selected: Selected) -> None:
    lines = tmp_path / "texts.txt"
    tests = tmp_path / "tests.txt"
    tests.write_text(f"{selected.texts[0].text.upper()}\n")
    probe = write_lines(tmp_path / "probe")
    options = ("--tokens", "300", "--probe", probe, "--leave-out", str(tests), "--mix", "masked=1,contrast=1", "--json")
    done = lifelong("pretrain", "--texts", str(lines), *options, "--set", f"state_dir={tmp_path / 'state'}")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["texts"]["left_out"] == 1 and made["texts"]["used"] == len(selected.texts) - 1
    assert made["curve"][0]["tokens"] == 0 and made["curve"][-1]["tokens"] == made["tokens"]
    assert 0 <= made["curve"][-1]["score"] <= 100
    check = lifelong("encoder", "check", made["folder"], "--json")
    assert check.returncode == 0, check.stderr
    assert json.loads(check.stdout)["shape"]["layers"] == 4


def test_the_default_of_the_command_is_that_of_the_training() -> None:
    assert parse_mix(DEFAULT_MIX) == Mix()
    assert parse_mix("contrast=2").contrast == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--from-topic"),
        (("--from-topic", "--texts", "support"), "not both"),
        (("--texts", "support", "--mix", "guess=1"), "expected one of masked"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    done = lifelong("pretrain", *options, "--set", f"state_dir={tmp_path}")
    assert done.returncode == 2 and message in done.stderr
