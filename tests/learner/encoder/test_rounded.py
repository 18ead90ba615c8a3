from pathlib import Path

import pytest
import torch

from learner.encoder.base import lower_digests
from learner.encoder.rounded import FILE, rounded_encoder
from learner.encoder.served import StoredTensor, export_encoder
from model import strata_family
from model.calibration import to_int4
from model.errors import NonFinite
from model.grid import find_grid
from model.strata import Strata
from model.weights import encoder_tensors
from tests.learner.small_learner import small_strata, tokenizer


def rounded_tensors(
    folder: Path | None, *, strata: Strata | None = None, first_layer: int = 1
) -> dict[str, StoredTensor]:
    encoder = strata or small_strata()
    digest = lower_digests(encoder)[-1]
    return rounded_encoder(encoder, tokenizer(), first_layer=first_layer, weights_digest=digest, cache_dir=folder)


def digests(tensors: dict[str, StoredTensor]) -> dict[str, str]:
    return {name: stored.entry.digest for name, stored in tensors.items()}


@pytest.fixture
def num_made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each call that quantizes."""
    calls: list[int] = []
    make = strata_family._rounded

    def counted(strata: Strata, *others: object) -> object:
        calls.append(len(calls))
        return make(strata, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(strata_family, "_rounded", counted)
    return calls


def test_the_second_start_reads_the_same_bits(tmp_path: Path, num_made: list[int]) -> None:
    first = small_strata()
    second = small_strata()
    once = rounded_tensors(tmp_path, strata=first)
    assert digests(rounded_tensors(tmp_path, strata=second)) == digests(once)
    assert digests(rounded_tensors(None)) == digests(once)
    # One more call was without a folder.
    assert len(num_made) == 2
    for (name, mine), theirs in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name
    in_scales = [value for name, value in second.state_dict().items() if name.endswith("in_scale")]
    assert any((in_scale != 1).any() for in_scale in in_scales)


def test_only_trained_blocks_are_on_a_grid(tmp_path: Path) -> None:
    """This also holds if the tensors come from the cache."""
    for _ in range(2):
        strata = small_strata()
        stored = rounded_tensors(tmp_path, strata=strata)
        names = {name for name, module in strata.named_modules() if find_grid(module) is not None}
        assert names == {f"layers.1.{part}" for part in ("qkv", "out", "up", "down")}
        top = export_encoder(strata, first_layer=1)
        assert all(stored[name].entry == each.entry for name, each in top.items())


def test_int4_stays_int4(tmp_path: Path) -> None:
    for _ in range(2):
        strata = to_int4(small_strata())
        stored = rounded_tensors(tmp_path, strata=strata)
        expected = encoder_tensors(to_int4(small_strata()))
        assert all(each.tensor.to_blob() == expected[name].to_blob() for name, each in stored.items())
        assert stored["layers.0.up"].tensor.scheme == stored["embed.word"].tensor.scheme == "w4g64"


def test_other_weights_or_settings_are_quantized_again(tmp_path: Path, num_made: list[int]) -> None:
    rounded_tensors(tmp_path)
    other = rounded_tensors(tmp_path, strata=small_strata(seed=8))
    assert digests(other) == digests(rounded_tensors(None, strata=small_strata(seed=8)))
    assert digests(rounded_tensors(tmp_path, first_layer=0)) == digests(rounded_tensors(None, first_layer=0))
    assert len(num_made) == 5


@pytest.mark.parametrize("place", [0, 40, 100, -1])
def test_a_damaged_file_is_made_again(tmp_path: Path, num_made: list[int], place: int) -> None:
    once = rounded_tensors(tmp_path)
    path = tmp_path / FILE
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    assert digests(rounded_tensors(tmp_path)) == digests(once) and path.read_bytes() == whole
    path.write_bytes(whole[:place])
    assert digests(rounded_tensors(tmp_path)) == digests(once) and path.read_bytes() == whole
    assert len(num_made) == 3


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.write_text("a file where the folder should be")
    assert digests(rounded_tensors(folder)) == digests(rounded_tensors(None))


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    strata = small_strata()
    strata.get_parameter("layers.1.up.weight").data[0, 0] = float("nan")
    with pytest.raises(NonFinite):
        rounded_tensors(tmp_path, strata=strata)
    assert not (tmp_path / FILE).exists()
