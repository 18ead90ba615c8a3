"""Files with a seal behind their content: at an address where others may write, and here without it.

content of NAME --write_sealed--> content, seal of its SHA-256 as `checkpoint:NAME` --take_seal--> content
"""

import os
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

from wire.store import SEAL_CHARS, Seals

CHUNK_BYTES: Final = 4 << 20


def write_sealed(path: Path, target: BinaryIO, seals: Seals) -> None:
    """Writes the file at `path`, and its seal, to `target`. Raises OSError."""
    digest = sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
    target.write(seals.seal(digest.digest(), f"checkpoint:{path.name}"))


def take_seal(path: Path, name: str, seals: Seals) -> None:
    """Takes the seal off the end of the file at `path`. Raises BadSignature unless it is ours for `name`, OSError."""
    digest = sha256()
    with path.open("r+b") as file:
        num_left = num_bytes = max(file.seek(0, os.SEEK_END) - SEAL_CHARS, 0)
        file.seek(0)
        while chunk := file.read(min(num_left, CHUNK_BYTES)):
            digest.update(chunk)
            num_left -= len(chunk)
        seals.check(digest.digest(), file.read(), f"checkpoint:{name}")
        file.truncate(num_bytes)
