from pathlib import Path

from learner.encoder.rounded import read_tensors, write_tensors
from model.weights import encoder_tensors
from tests.model.small_encoder import small_strata

KEY = bytes(range(32))


def test_a_file_returns_the_tensors_written_under_its_key(tmp_path: Path) -> None:
    path = tmp_path / "below" / "weights"
    tensors = encoder_tensors(small_strata())
    write_tensors(path, KEY, tensors)
    found = read_tensors(path, KEY)
    assert found is not None and found.keys() == tensors.keys()
    assert all(found[name].to_blob() == each.to_blob() for name, each in tensors.items())
    assert all(found[name].scheme == each.scheme for name, each in tensors.items())
    assert read_tensors(path, bytes(32)) is None and read_tensors(tmp_path / "other", KEY) is None


def test_a_file_with_another_byte_is_none(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_tensors(path, KEY, encoder_tensors(small_strata()))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert read_tensors(path, KEY) is None
