"""Tests that `lifelong model rung` adds a table to an encoder."""

import json
from pathlib import Path

from model.encoders import open_encoder
from model.rung import WholeRung
from tests.services.command_line import lifelong
from tests.services.members.small import CONFIG, write_small
from tests.services.members.test_train import write_texts


def test_the_command_adds_a_table_in_the_space_of_the_encoder(tmp_path: Path) -> None:
    encoder = write_small(tmp_path / "encoder")
    (tmp_path / "encoder" / "pytorch_model.bin").write_bytes(b"not read")
    out = tmp_path / "out"
    arguments = ("model", "rung", encoder, str(out), "--texts", write_texts(tmp_path), "--steps", "60", "--json")
    state = ("--set", f"state_dir={tmp_path}")
    done = lifelong(*arguments, *state)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["path"] == str(out) and made["table_bytes"] > 0
    whole, _ = open_encoder(str(out))
    assert isinstance(whole, WholeRung) and whole.config.of_table.d_model == CONFIG.d_model
    assert not (out / "main" / "pytorch_model.bin").exists()
    again = lifelong(*arguments, *state)
    assert again.returncode == 78 and f"{out} exists" in again.stderr
