"""The base encoder of a state: from the settings, or an adopted one from its file."""

import os
from pathlib import Path

import pytest

from learner.config import LearnerConfig
from learner.encoder.base import ENCODER_SUFFIX, MAX_FILES, BaseEncoders
from learner.encoder.served import export_encoder
from learner.errors import OfferRefused, StateRefused
from model.qtensor import QTensor
from tests.learner.offers import PRUNED, make_strata
from tests.learner.small_learner import small_config, small_strata, tokenizer
from wire.records import EncoderOffer


def bases(folder: Path | None, config: LearnerConfig | None = None) -> BaseEncoders:
    return BaseEncoders(config or small_config(), small_strata(), tokenizer(), folder=folder)


def offer(number: int = 0) -> EncoderOffer:
    return EncoderOffer(
        id=f"{number}", name="other", time_ms=1, tokenizer=tokenizer().digest, config=PRUNED.canonical_json()
    )


def weights(seed: int = 3) -> dict[str, QTensor]:
    return {name: stored.tensor for name, stored in export_encoder(make_strata(PRUNED, seed)).items()}


def test_an_adopted_encoder_comes_back_from_its_file_to_the_same_bits(tmp_path: Path) -> None:
    first = bases(tmp_path)
    taken = first.take(offer(), weights(), first.of_settings)
    again = bases(tmp_path)
    found = again.restored(taken.adopted, again.of_settings)
    assert found.key == taken.key != again.of_settings.key
    assert found.adopted == taken.adopted and found.served.tensors.keys() == taken.served.tensors.keys()
    assert again.restored(taken.adopted, found) is found


def test_the_top_of_an_adopted_encoder_is_stored_as_it_came(tmp_path: Path) -> None:
    """Its blocks have the grids of their weights, so that training begins from the served weights."""
    first = bases(tmp_path)
    taken = first.take(offer(), weights(), first.of_settings)
    top = export_encoder(taken.strata, first_layer=1)
    assert all(stored.entry == taken.served.tensors[name].entry for name, stored in top.items())


def test_without_an_adopted_encoder_or_after_changed_settings_the_settings_apply(tmp_path: Path) -> None:
    first = bases(tmp_path)
    taken = first.take(offer(), weights(), first.of_settings)
    assert first.restored(None, taken) is first.of_settings
    changed = bases(tmp_path, small_config(num_features=80))
    assert changed.restored(taken.adopted, changed.of_settings) is changed.of_settings


def test_the_error_names_the_missing_file(tmp_path: Path) -> None:
    first = bases(tmp_path)
    taken = first.take(offer(), weights(), first.of_settings)
    for path in tmp_path.glob(f"*{ENCODER_SUFFIX}"):
        path.unlink()
    with pytest.raises(StateRefused, match="the weights of adopted encoder other are missing"):
        first.restored(taken.adopted, first.of_settings)


def test_the_newest_files_are_kept(tmp_path: Path) -> None:
    first = bases(tmp_path)
    for number in range(MAX_FILES + 1):
        for age, path in enumerate(sorted(tmp_path.glob(f"*{ENCODER_SUFFIX}"), key=lambda path: path.stat().st_mtime)):
            os.utime(path, (age, age))
        first.take(offer(number), weights(seed=number), first.of_settings)
    assert len(list(tmp_path.glob(f"*{ENCODER_SUFFIX}"))) == MAX_FILES


def test_weights_that_do_not_fit_are_refused() -> None:
    first = bases(None)
    with pytest.raises(OfferRefused, match=r"layers.1.vectors is missing"):
        first.take(offer(), {name: each for name, each in weights().items() if "1.vec" not in name}, first.of_settings)


def test_an_offer_that_does_not_fit_is_refused_with_the_fix() -> None:
    first = bases(None)
    assert not first.offer_problem(offer(), first.of_settings)
    other = EncoderOffer(id="a", name="a", time_ms=1, tokenizer="b" * 64, config=PRUNED.canonical_json())
    assert "restart the service" in first.offer_problem(other, first.of_settings)
