"""A small encoder of pictures and sounds with random weights, in a folder, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn import functional

from model.media.encoder import MediaConfig, WholeMedia
from model.media.family import _in_use, encoder_files
from model.media.stem import MAX_INPUT, IntegerStem, Stem, quantized
from model.media.tokens import MODALITIES, Modality


def write_media_encoder(folder: Path, *, seed: int = 0) -> Path:
    """Writes an encoder of one layer. Equal seeds make equal files."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        whole = WholeMedia(MediaConfig(words=64, d_model=128, n_layers=1, n_heads=4, d_ff=256, head_features=512))
        stems = {name: _random_stem(each) for name, each in MODALITIES.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in encoder_files(whole.eval(), stems, {}).items():
        (folder / name).write_bytes(content)
    return folder


def _random_stem(modality: Modality) -> IntegerStem:
    """Returns a stem of random weights, whose outputs have the mean 0 and the variance 1 of a trained one's."""
    coarse = torch.randint(0, 128, (64, 1, modality.height // 4, modality.width // 4)).float()
    q = functional.interpolate(coarse, (modality.height, modality.width)).to(torch.uint8)
    stem = Stem()
    with torch.no_grad():
        for _ in range(50):
            # The running statistics become those of this batch.
            stem(q.float() / MAX_INPUT)
    return quantized(stem, q[:, 0])


@contextmanager
def no_stems_after() -> Iterator[None]:
    """Forgets the stems of this process behind the block: other tests read events of texts only."""
    try:
        yield
    finally:
        _in_use.clear()
