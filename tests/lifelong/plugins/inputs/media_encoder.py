"""A small encoder of pictures and sounds with random weights, in a folder, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from model.media.encoder import MediaConfig, WholeMedia
from model.media.family import _in_use, encoder_files
from model.media.stem import Stem, quantized
from model.media.tokens import MODALITIES


def write_media_encoder(folder: Path, *, seed: int = 0) -> Path:
    """Writes an encoder of one layer. Equal seeds make equal files."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        whole = WholeMedia(MediaConfig(words=64, d_model=48, n_layers=1, n_heads=2, d_ff=96, head_features=512))
        stems = {
            name: quantized(Stem(), torch.randint(0, 128, (16, each.height, each.width)).to(torch.uint8))
            for name, each in MODALITIES.items()
        }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in encoder_files(whole.eval(), stems, {}).items():
        (folder / name).write_bytes(content)
    return folder


@contextmanager
def no_stems_after() -> Iterator[None]:
    """Forgets the stems of this process behind the block: other tests read events of texts only."""
    try:
        yield
    finally:
        _in_use.clear()
