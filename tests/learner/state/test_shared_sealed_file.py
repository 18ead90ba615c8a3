"""Tests that a sealed file is refused unless it is complete and has its own name."""

from pathlib import Path

import pytest

from learner.state.shared import CHUNK_BYTES, strip_seal, write_sealed
from wire.errors import BadSignature
from wire.keyring import new_ring
from wire.store import SEAL_CHARS, Seals

SEALS = Seals(new_ring(), "eu.")


@pytest.mark.parametrize("num_bytes", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 7])
def test_what_was_sealed_is_read_again_and_any_other_bytes_are_refused(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "7.checkpoint"
    content = b"x" * num_bytes
    path.write_bytes(content)
    sealed_path = tmp_path / "sealed"
    with sealed_path.open("wb") as file:
        write_sealed(path, file, SEALS)
    sealed = sealed_path.read_bytes()
    for forged in (b"", content, sealed[1:], sealed[:-1], sealed + b"0", b"y" + sealed, bytes(SEAL_CHARS)):
        sealed_path.write_bytes(forged)
        with pytest.raises(BadSignature):
            strip_seal(sealed_path, path.name, SEALS)
    sealed_path.write_bytes(sealed)
    with pytest.raises(BadSignature):
        strip_seal(sealed_path, "8.checkpoint", SEALS)
    strip_seal(sealed_path, path.name, SEALS)
    assert sealed_path.read_bytes() == content
