from pathlib import Path

import pytest
import torch

from learner.export import Stored
from learner.state import rounded
from learner.state.rounded import FILE, rounded_encoder
from model.errors import NonFinite
from model.strata import Strata
from tests.learner.small import small_strata, tokenizer


def made(folder: Path | None, *, strata: Strata | None = None, first_layer: int = 1) -> dict[str, Stored]:
    return rounded_encoder(strata or small_strata(), tokenizer(), first_layer=first_layer, cache_dir=folder)


def digests(tensors: dict[str, Stored]) -> dict[str, str]:
    return {name: it.entry.digest for name, it in tensors.items()}


@pytest.fixture
def num_made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often something was rounded: one entry each."""
    calls: list[int] = []
    make = rounded._rounded

    def counted(strata: Strata, *others: object) -> object:
        calls.append(len(calls))
        return make(strata, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(rounded, "_rounded", counted)
    return calls


def test_the_second_start_reads_the_same_bits(tmp_path: Path, num_made: list[int]) -> None:
    first = small_strata()
    second = small_strata()
    once = made(tmp_path, strata=first)
    assert digests(made(tmp_path, strata=second)) == digests(once) == digests(made(None))
    assert len(num_made) == 2  # and once without a folder
    for (name, mine), theirs in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name
    assert any((it != 1).any() for name, it in second.state_dict().items() if name.endswith("in_scale"))


def test_other_weights_or_settings_are_rounded_anew(tmp_path: Path, num_made: list[int]) -> None:
    made(tmp_path)
    other = made(tmp_path, strata=small_strata(seed=8))
    assert digests(other) == digests(made(None, strata=small_strata(seed=8)))
    assert digests(made(tmp_path, first_layer=0)) == digests(made(None, first_layer=0))
    assert len(num_made) == 5


@pytest.mark.parametrize("place", [0, 40, 100, -1])
def test_a_damaged_file_is_made_again(tmp_path: Path, num_made: list[int], place: int) -> None:
    once = made(tmp_path)
    path = tmp_path / FILE
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    assert digests(made(tmp_path)) == digests(once) and path.read_bytes() == whole
    path.write_bytes(whole[:place])
    assert digests(made(tmp_path)) == digests(once) and path.read_bytes() == whole
    assert len(num_made) == 3


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.write_text("a file where the folder should be")
    assert digests(made(folder)) == digests(made(None))


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    strata = small_strata()
    strata.get_parameter("layers.1.up.weight").data[0, 0] = float("nan")
    with pytest.raises(NonFinite):
        made(tmp_path, strata=strata)
    assert not (tmp_path / FILE).exists()
