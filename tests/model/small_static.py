"""A small static encoder, and its folder, with the tokenizer of a few words."""

from pathlib import Path

import torch

from model.config import StaticConfig
from model.static import StaticTable, WholeStatic, encoder_files
from tests.services.members.small import WORDS, tokenizer_json

PAIRS = ((1, 5), (4, 5), (7, 8), (8, 2))
"""The pairs of tokens that have rows."""

CONFIG = StaticConfig(
    vocab=len(WORDS), pairs=len(PAIRS), d_model=8, max_sequence=16, head_features=96, label_capacity=8
)


def small_static(config: StaticConfig = CONFIG, *, seed: int = 0) -> WholeStatic:
    """Returns an encoder with random rows; the row of unknown pairs is zero."""
    table_VD = torch.randn(config.rows, config.d_model, generator=torch.Generator().manual_seed(seed))
    table_VD[-1] = 0.0
    pairs_P2 = torch.tensor(PAIRS[: config.pairs], dtype=torch.long).reshape(-1, 2)
    return WholeStatic(config, StaticTable(table_VD, pairs_P2, vocab=config.vocab)).eval()


def write_static(folder: Path) -> str:
    """Writes the encoder, and returns the path by which settings name it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in encoder_files(small_static(), tokenizer_json(), [{"step": "test"}]).items():
        (folder / name).write_bytes(content)
    return str(folder)
