"""Stems: the integer form is exact, follows the trained one, and refuses what it cannot read."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.errors import MissingWeight, UnreadableInput
from model.media.stem import IntegerStem, Layer, Stem, Stems, prepare, quantized
from model.media.tokens import AUDIO, CODE, IMAGE, LEVELS


def trained_stem() -> Stem:
    """Returns a stem whose normalisations have seen pictures."""
    torch.manual_seed(0)
    stem = Stem().train()
    for _ in range(20):
        stem(torch.rand(64, 1, 28, 28) ** 3)
    return stem.eval()


def pictures(num: int, seed: int = 1) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return ((torch.rand(num, 28, 28, generator=rng) ** 3) * 127).round().to(torch.uint8)


def exact_layer(x: np.ndarray, layer: Layer, *, stride: int, padding: int, largest: int) -> np.ndarray:
    """The definition of a layer, in int64 and float32 without torch: x [I, h, w] -> [O, h', w']."""
    weight = layer.weight.numpy().astype(np.int64)
    size = weight.shape[2]
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    sums = np.einsum("oiyx,ihwyx->ohw", weight, windows) + layer.bias.numpy()[:, None, None]
    assert np.abs(sums).max() < 1 << 24
    scaled = sums.astype(np.float32) * layer.scale.numpy()[:, None, None]
    clipped: np.ndarray = np.clip(np.rint(scaled), 0, largest).astype(np.int64)
    return clipped


def test_codes_are_those_of_integer_arithmetic() -> None:
    q = pictures(8)
    stem = quantized(trained_stem(), q)
    codes = stem.codes(q)
    assert codes.shape == (8, IMAGE.places, CODE) and codes.dtype == torch.uint8
    for picture, found in zip(q.numpy(), codes.numpy(), strict=True):
        x = picture[None].astype(np.int64)
        for layer in stem.layers[:-1]:
            x = exact_layer(x, layer, stride=2, padding=1, largest=127)
        x = exact_layer(x, stem.layers[-1], stride=1, padding=0, largest=LEVELS - 1)
        assert np.array_equal(x.reshape(CODE, -1).T, found)


def test_a_code_does_not_depend_on_the_batch() -> None:
    q = pictures(5)
    stem = quantized(trained_stem(), q)
    assert torch.equal(stem.codes(q), torch.cat([stem.codes(each[None]) for each in q]))


@torch.no_grad()
def test_integers_follow_the_trained_stem() -> None:
    stem, q = trained_stem(), pictures(64)
    levels = (stem(q[:, None] / 127) + 1) * (LEVELS - 1) / 2
    distance = (quantized(stem, q).codes(pictures(64)) - levels).abs()
    assert distance.mean() < 0.1 and distance.max() <= 2


def test_a_stem_is_stored_whole() -> None:
    stem = quantized(trained_stem(), pictures(16))
    tensors = stem.tensors("image")
    assert torch.equal(IntegerStem.from_tensors(tensors, "image").codes(pictures(3)), stem.codes(pictures(3)))
    del tensors["image.2.scale"]
    with pytest.raises(MissingWeight, match=r"image\.2\.scale"):
        IntegerStem.from_tensors(tensors, "image")


@settings(max_examples=50)
@given(
    arrays("int16", st.tuples(st.integers(1, 70), st.just(40)), elements=st.integers(4_096, 12_000)),
    st.integers(0, 900),
)
def test_loudness_does_not_count(mel: np.ndarray, louder: int) -> None:
    prepared = prepare(AUDIO, mel)
    assert prepared.shape == (32, 40) and prepared.dtype == np.uint8 and prepared.max() <= 127
    assert np.array_equal(prepared, prepare(AUDIO, mel + np.int16(louder)))


def test_a_sound_of_32_frames_is_not_resized_and_silence_is_quiet() -> None:
    mel = np.random.default_rng(3).integers(6_000, 10_000, (32, 40)).astype(np.int16)
    lowest = 127 + (mel.astype(int) - mel.max()) * 127 // 4_096
    assert np.array_equal(prepare(AUDIO, mel), np.maximum(lowest, 0))
    assert not prepare(AUDIO, np.zeros((9, 40), np.int16)).any()


@pytest.mark.parametrize(
    ("modality", "values"),
    [
        (IMAGE, np.zeros((28, 27), np.uint8)),
        (IMAGE, np.zeros((28, 28), np.int16)),
        (AUDIO, np.zeros((0, 40), np.int16)),
        (AUDIO, np.zeros((3, 39), np.int16)),
        (AUDIO, np.zeros((3, 40), np.float32)),
    ],
)
def test_other_arrays_are_refused(modality: object, values: np.ndarray) -> None:
    with pytest.raises(UnreadableInput, match="expected"):
        prepare(modality, values)  # type: ignore[arg-type]


def test_an_encoder_without_a_stem_says_what_it_reads() -> None:
    stems = Stems({"image": quantized(trained_stem(), pictures(4))}, "07")
    with pytest.raises(UnreadableInput, match="no stem for 'audio', it reads image"):
        stems.codes("audio", [np.zeros((3, 40), np.int16)])
