"""The encoders of profiles have their shapes."""

from pathlib import Path

import pytest

from learner.errors import DataError
from model.bert import load_encoder
from services.members.source import labelled
from services.profiles import encoders
from services.profiles.encoders import TEACHER, TEXTS, encoder_of, to_nano
from services.profiles.profile import BASE, NANO, PRO


def silent(_: str) -> None:
    """Shows nothing."""


def test_nano_is_made_of_minilm_without_training() -> None:
    strata, tokenizer = load_encoder(TEACHER)
    tasks = labelled(TEXTS, None, tokenizer, max_texts=32, seed=0)
    assert to_nano(strata.requires_grad_(False), tasks).config.canonical_json() == NANO.config.canonical_json()


def test_base_is_the_default_encoder_and_pro_has_none(tmp_path: Path) -> None:
    assert encoder_of(BASE, data=None, say=silent, cache=tmp_path) == TEACHER
    with pytest.raises(DataError, match="profile pro has no encoder of its own"):
        encoder_of(PRO, data=None, say=silent, cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_nano_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "STEPS", 2)
    said: list[str] = []
    folder = encoder_of(NANO, data=None, say=said.append, cache=tmp_path)
    assert load_encoder(folder)[0].config.canonical_json() == NANO.config.canonical_json()
    num_said = len(said)
    assert num_said > 2 and encoder_of(NANO, data=None, say=said.append, cache=tmp_path) == folder
    assert len(said) == num_said
