"""Training of encoders of digits, and of static ones: cached by their keys, and gone on with after a kill."""

import json
from functools import partial
from pathlib import Path

import pytest

from evals.streams.digits import digits_data
from lifelong.compress.contrastive import Pretraining, PretrainOptions, pretraining_key
from lifelong.compress.distillation import write_checkpoint
from lifelong.compress.static import StaticOptions
from model.config import StaticConfig
from model.encoders import open_encoder, open_inputs
from model.media.family import MediaInputs
from services.members import train
from services.members.train import train_digits, train_static
from tests.evals.streams.fsdd_files import small_fsdd
from tests.evals.streams.mnist_files import small_mnist
from tests.model.media.small import CONFIG, picture
from tests.services.command_line import lifelong
from tests.services.members.small import write_small

OPTIONS = PretrainOptions(stem_steps=2, trunk_steps=2, stem_batch=16, batch=4)


def test_an_encoder_is_trained_once_and_opens(tmp_path: Path) -> None:
    data = small_fsdd(small_mnist(tmp_path))
    said: list[str] = []
    first = train_digits(OPTIONS, data=data, state_dir=tmp_path, say=said.append, config=CONFIG)
    assert first.is_new and "stems: step 1 of 4" in said[1] and "trunk: step 4 of 4" in said[-1]
    files = {path.name: path.read_bytes() for path in Path(first.folder).iterdir()}
    assert files.keys() == {"config.json", "encoder.safetensors", "made.json", "stems.safetensors"}
    again = train_digits(OPTIONS, data=data, state_dir=tmp_path, say=said.append, config=CONFIG)
    assert (again.folder, again.is_new) == (first.folder, False)
    whole, inputs = open_encoder(first.folder)
    assert whole.config == CONFIG and isinstance(inputs, MediaInputs)
    assert len(inputs.part_tokens("image", [picture(1)])[0]) == 17


def test_a_killed_training_goes_on_to_the_same_files(tmp_path: Path) -> None:
    data = small_fsdd(small_mnist(tmp_path))
    said: list[str] = []
    whole = train_digits(OPTIONS, data=data, state_dir=tmp_path / "whole", say=said.append, config=CONFIG)
    known = digits_data(data)
    key = pretraining_key(known, CONFIG, OPTIONS)
    killed = Pretraining(known, CONFIG, OPTIONS)
    for _ in range(3):
        killed.step()
    checkpoint = tmp_path / "killed" / "encoders" / f"{Path(whole.folder).name}.checkpoint"
    checkpoint.parent.mkdir(parents=True)
    write_checkpoint(checkpoint, killed, key)
    found = train_digits(OPTIONS, data=data, state_dir=tmp_path / "killed", say=said.append, config=CONFIG)
    assert "resuming after step 3" in said and not checkpoint.exists()
    for path in Path(whole.folder).iterdir():
        assert path.read_bytes() == (Path(found.folder) / path.name).read_bytes(), path.name


@pytest.mark.parametrize("lacks", ["mnist", "fsdd"])
def test_the_command_says_where_to_get_the_data(tmp_path: Path, lacks: str) -> None:
    if lacks == "fsdd":
        small_mnist(tmp_path)
    done = lifelong("encoder", "train", "digits", "--set", f"data={tmp_path}", "--set", f"state_dir={tmp_path}")
    assert done.returncode == 78
    assert "folder around" in done.stderr and lacks in done.stderr


STATIC_OPTIONS = StaticOptions(width=16, pairs=8, steps=6, batch=4)


def write_texts(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "texts.txt"
    path.write_text("please play the song\nstop the music now\nplay the music\nrain today\n")
    return str(path)


def test_a_static_encoder_is_trained_once_and_opens(tmp_path: Path) -> None:
    teacher = write_small(tmp_path / "teacher")
    said: list[str] = []
    make = partial(
        train_static, teacher, [write_texts(tmp_path)], STATIC_OPTIONS, data=None, folder=tmp_path / "encoders"
    )
    first = make(say=said.append)
    assert first.is_new and "step 6 of 6: cosine" in said[-1] and any("teacher: 4 of 4 texts" in line for line in said)
    whole, inputs = open_encoder(first.folder)
    assert isinstance(whole.config, StaticConfig) and whole.config.d_model == 16
    assert inputs.digest == open_inputs(teacher).digest
    assert [step["step"] for step in json.loads((Path(first.folder) / "history.json").read_bytes())] == ["static"]
    num_said = len(said)
    again = make(say=said.append)
    assert (again.folder, again.is_new, len(said)) == (first.folder, False, num_said)


def test_a_killed_distillation_goes_on_to_the_same_files(tmp_path: Path) -> None:
    teacher = write_small(tmp_path / "teacher")
    texts = [write_texts(tmp_path)]
    make = partial(train_static, teacher, texts, STATIC_OPTIONS, data=None)
    whole = make(folder=tmp_path / "whole", say=lambda _: None)
    checkpoint = tmp_path / "killed" / f"{Path(whole.folder).name}.checkpoint"
    checkpoint.parent.mkdir()

    def kill(line: str) -> None:
        if line.startswith("step 3"):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "CHECKPOINT_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            make(folder=tmp_path / "killed", say=kill)
    assert checkpoint.exists()
    said: list[str] = []
    found = make(folder=tmp_path / "killed", say=said.append)
    assert "resuming after step 2" in said and not checkpoint.exists()
    for path in Path(whole.folder).iterdir():
        assert path.read_bytes() == (Path(found.folder) / path.name).read_bytes(), path.name


def test_the_command_makes_a_static_encoder(tmp_path: Path) -> None:
    teacher = write_small(tmp_path / "teacher")
    arguments = ("encoder", "train", "static", "--teacher", teacher, "--width", "8", "--steps", "2", "--json")
    state = ("--set", f"state_dir={tmp_path}")
    without = lifelong(*arguments, *state)
    assert without.returncode == 78 and "no texts" in without.stderr
    made = lifelong(*arguments, "--texts", write_texts(tmp_path), *state)
    assert made.returncode == 0, made.stderr
    assert Path(json.loads(made.stdout)["folder"]).parent == tmp_path / "encoders"
