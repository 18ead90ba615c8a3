"""Training of the encoder of digits: cached by its key, and gone on with after a kill."""

from pathlib import Path

import pytest

from evals.streams.digits import digits_data
from lifelong.compress.contrastive import Pretraining, PretrainOptions, pretraining_key
from lifelong.compress.distillation import write_checkpoint
from model.encoders import open_encoder
from model.media.family import MediaInputs
from services.members.train import train_digits
from tests.evals.streams.fsdd_files import small_fsdd
from tests.evals.streams.mnist_files import small_mnist
from tests.model.media.small import CONFIG, picture
from tests.services.command_line import lifelong

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
