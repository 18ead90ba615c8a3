"""Implements `lifelong model rung`: adds a table of token vectors to an encoder, which answers in a brown-out.

    encoder, texts --train_static, keeps_space--> a static encoder in the space of the encoder
    OUT/config.json, OUT/main (the encoder's files), OUT/table --> an encoder of the family `rung`

The table is trained once for equal texts and options, in the state folder, and continues there after a kill.
"""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lifelong.compress.static import StaticOptions
from model.calibration import TEXTS
from model.encoders import find_family, open_encoder
from model.member import CONFIG, new_folder
from model.ragged import RaggedBatch
from model.rung import FAMILY, MAIN, TABLE
from model.source import encoder_folder
from services.members.source import Say, cosine, require_free
from services.members.train import train_static

COPIED = (".json", ".safetensors")
"""The suffixes of the copied files of an encoder's folder. Published encoders have further, large ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WithRung:
    """The result. `cosine` is the mean cosine of the table's vectors with the encoder's, over the calibration texts."""

    path: str
    table_bytes: int
    cosine: float
    seconds: float

    def lines(self) -> list[str]:
        return [
            f"{self.path}: the encoder, and a table of {self.table_bytes / 1e6:.1f} MB as served",
            f"cosine of the table with the encoder {self.cosine:.4f}",
        ]

    def fields(self) -> dict[str, Any]:
        return asdict(self)


def add_rung(
    encoder: str, out: Path, texts: Sequence[str], options: StaticOptions, *, data: Path | None, folder: Path, say: Say
) -> WithRung:
    """Writes the folder `out`: the encoder, and a table that imitates it on `texts`.

    `texts` names data sets, folders and files, whose labels are not read. The table is trained in `folder`. Raises
    WrongConfig if `out` exists, DataError, and StateRefused for a damaged checkpoint.
    """
    require_free(out)
    options = dataclasses.replace(options, keeps_space=True)
    table = train_static(encoder, texts, options, data=data, folder=folder, say=say)
    with new_folder(out) as draft:
        shutil.copytree(encoder_folder(encoder), draft / MAIN, ignore=_unread)
        shutil.copytree(table.folder, draft / TABLE)
        (draft / CONFIG).write_text(json.dumps({"family": FAMILY}) + "\n")
    main, inputs = open_encoder(encoder)
    whole, _ = open_encoder(table.folder)
    batch = RaggedBatch.of(inputs.encode_many(TEXTS))
    with torch.no_grad():
        found = cosine(main(batch), whole(batch))
    tensors = find_family(whole.config).quantize_trained(whole, first_layer=None, grams={})
    num_bytes = sum(len(tensor.to_blob()) for tensor in tensors.values())
    return WithRung(path=str(out), table_bytes=num_bytes, cosine=found, seconds=table.seconds)


def _unread(folder: str, names: list[str]) -> list[str]:
    """Returns the names in a folder that are not copied."""
    return [name for name in names if (Path(folder) / name).is_file() and not name.endswith(COPIED)]
