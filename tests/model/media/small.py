"""A small encoder of pictures, sounds and texts, with random weights."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from model.media.encoder import MediaConfig, WholeMedia
from model.media.family import MEDIA, MediaInputs, encoder_files
from model.media.stem import Array, Stem, quantized
from model.media.tokens import MODALITIES

CONFIG = MediaConfig(words=64, d_model=64, n_layers=2, n_heads=2, d_ff=128, head_features=256, label_capacity=16)


@cache
def small_files() -> dict[str, bytes]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        stems = {}
        for name, each in MODALITIES.items():
            blurred = functional.interpolate(torch.rand(64, 1, 5, 5) ** 3, (each.height, each.width), mode="bilinear")
            q = (blurred[:, 0] * 127).to(torch.uint8)
            stem = Stem().train()
            # The running statistics of the normalisations approach those of the batch.
            for _ in range(50):
                stem(q[:, None] / 127)
            stems[name] = quantized(stem, q)
        return encoder_files(WholeMedia(CONFIG), stems, {"data": "none"})


def write_small(folder: Path) -> str:
    """Writes the encoder, and returns its folder."""
    for name, content in small_files().items():
        (folder / name).write_bytes(content)
    return str(folder)


def opened(folder: Path) -> tuple[WholeMedia, MediaInputs]:
    whole, inputs = MEDIA.open(write_small(folder), max_tokens=None)
    assert isinstance(inputs, MediaInputs)
    return whole, inputs


def picture(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (28, 28)).astype(np.uint8)


def sound(seed: int, num_frames: int = 40) -> Array:
    return np.random.default_rng(seed).integers(3_000, 9_000, (num_frames, 40)).astype(np.int16)
