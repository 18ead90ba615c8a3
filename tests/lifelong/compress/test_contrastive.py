"""Contrastive training: the losses, the views, and a training that goes on where it was killed."""

from pathlib import Path

import pytest
import torch

from learner.errors import StateRefused
from lifelong.compress.contrastive import (
    Pretraining,
    PretrainOptions,
    augmented,
    info_nce,
    paired_nce,
    pretraining_key,
)
from lifelong.compress.distillation import resume, write_checkpoint
from model.media.stem import MediaData
from model.media.tokens import AUDIO, IMAGE, Modality
from tests.model.media.small import CONFIG

OPTIONS = PretrainOptions(stem_steps=3, trunk_steps=3, stem_batch=16, batch=6)


def small_data(num: int = 60) -> MediaData:
    rng = torch.Generator().manual_seed(4)
    labels_N = torch.arange(num) % 3
    parts = {}
    for each in (IMAGE, AUDIO):
        q = torch.randint(40, (num, each.height, each.width), generator=rng, dtype=torch.uint8)
        for label in range(3):
            q[labels_N == label, 8 * label : 8 * label + 8, 5:20] += 80
        parts[each.name] = q
    texts = [f"{word} {place}" for place in range(4) for word in ("zero", "one", "two")]
    return MediaData(parts, texts, {IMAGE.name: labels_N, AUDIO.name: labels_N, "text": torch.arange(12) % 3})


def test_views_that_agree_have_the_lowest_loss() -> None:
    a_BD = torch.eye(6)
    assert info_nce(a_BD, a_BD) < info_nce(a_BD, a_BD.roll(1, dims=0))
    assert paired_nce(a_BD, a_BD) < paired_nce(a_BD, a_BD.roll(1, dims=0))
    # All views alike: one of 2 B - 1, and one of B, by chance.
    same_BD = torch.ones(6, 6) / 6**0.5
    assert torch.allclose(info_nce(same_BD, same_BD), torch.tensor(11.0).log())
    assert torch.allclose(paired_nce(same_BD, same_BD), torch.tensor(6.0).log())


@pytest.mark.parametrize("modality", [IMAGE, AUDIO])
def test_views_differ_and_stay_in_range(modality: Modality) -> None:
    q = small_data().parts[modality.name]
    rng = torch.Generator().manual_seed(0)
    first, second = augmented(modality, q, rng), augmented(modality, q, rng)
    assert first.shape == (len(q), 1, *q.shape[1:])
    assert first.min() >= 0 and first.max() <= 127
    assert ((first - second).abs().mean(dim=(1, 2, 3)) > 1).all()
    assert torch.equal(augmented(modality, q, torch.Generator().manual_seed(0)), first)


def finished(training: Pretraining) -> dict[str, torch.Tensor]:
    while not training.is_done:
        training.step()
    stems = {name: value for key, stem in training.stems.items() for name, value in stem.tensors(key).items()}
    return training.tensors() | stems


@pytest.mark.parametrize("killed_after", [0, 2, 3, 5])
def test_a_killed_training_gives_the_same_bits(tmp_path: Path, killed_after: int) -> None:
    data = small_data()
    whole = finished(Pretraining(data, CONFIG, OPTIONS))
    killed = Pretraining(data, CONFIG, OPTIONS)
    for _ in range(killed_after):
        killed.step()
    path = tmp_path / "checkpoint"
    key = pretraining_key(data, CONFIG, OPTIONS)
    write_checkpoint(path, killed, key)
    again = Pretraining(data, CONFIG, OPTIONS)
    assert resume(path, again, key)
    assert again.num_done == killed_after
    found = finished(again)
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], value) for name, value in whole.items())


def test_a_checkpoint_of_other_options_is_refused(tmp_path: Path) -> None:
    data = small_data()
    path = tmp_path / "checkpoint"
    write_checkpoint(path, Pretraining(data, CONFIG, OPTIONS), pretraining_key(data, CONFIG, OPTIONS))
    unpaired = PretrainOptions(stem_steps=3, trunk_steps=3, stem_batch=16, batch=6, pairs=())
    key = pretraining_key(data, CONFIG, unpaired)
    with pytest.raises(StateRefused, match="other options or data"):
        resume(path, Pretraining(data, CONFIG, unpaired), key)


def test_without_pairs_no_label_counts() -> None:
    data = small_data()
    options = PretrainOptions(stem_steps=1, trunk_steps=1, stem_batch=16, batch=6, pairs=())
    other = MediaData(data.parts, data.texts)
    first, second = (finished(Pretraining(each, CONFIG, options)) for each in (data, other))
    assert all(torch.equal(second[name], value) for name, value in first.items())


def test_seeds_train_different_encoders() -> None:
    first, second = (
        Pretraining(small_data(), CONFIG, PretrainOptions(stem_steps=1, trunk_steps=1, seed=seed)) for seed in (0, 1)
    )
    assert not torch.equal(
        first.tensors()["module.0.image.convs.0.weight"], second.tensors()["module.0.image.convs.0.weight"]
    )


def test_steps_lower_the_loss() -> None:
    options = PretrainOptions(stem_steps=30, trunk_steps=20, stem_batch=32, batch=16)
    training = Pretraining(small_data(), CONFIG, options)
    losses = [training.step() for _ in range(training.num_steps)]
    assert sum(losses[25:30]) < sum(losses[:5])
    assert sum(losses[45:]) < sum(losses[30:35])
