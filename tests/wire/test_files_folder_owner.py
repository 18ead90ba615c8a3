"""Tests the owner of a state folder: the first service, and no other."""

from pathlib import Path

import pytest

from wire.errors import FolderTaken
from wire.files import OWNER_FILE, FolderOwner, claim_folder

SHOP = FolderOwner(bus_prefix="shop.", store_prefix="shop:")


def test_a_folder_of_an_earlier_release_belongs_to_the_first_service(tmp_path: Path) -> None:
    (tmp_path / "000000001-e1-v1.checkpoint").touch()
    for _ in range(2):
        claim_folder(tmp_path, SHOP, "learner.state_dir")
    assert {path.name for path in tmp_path.iterdir()} == {OWNER_FILE, "000000001-e1-v1.checkpoint"}


@pytest.mark.parametrize(
    "other",
    [
        FolderOwner(bus_prefix="desk.", store_prefix="shop:"),
        FolderOwner(bus_prefix="shop.", store_prefix="desk:"),
        FolderOwner(bus_prefix="shop.", store_prefix="shop:", task="urgency"),
    ],
)
def test_another_service_is_refused_until_the_file_is_removed(tmp_path: Path, other: FolderOwner) -> None:
    folder = tmp_path / "new" / "learner"
    claim_folder(folder, SHOP, "learner.state_dir")
    with pytest.raises(FolderTaken) as caught:
        claim_folder(folder, other, "learner.state_dir")
    text = str(caught.value)
    assert "the state of the service with bus.prefix 'shop.', store.prefix 'shop:'" in text
    assert "learner.state_dir" in text
    assert f"remove {folder / OWNER_FILE}" in text
    (folder / OWNER_FILE).unlink()
    claim_folder(folder, other, "learner.state_dir")
    with pytest.raises(FolderTaken):
        claim_folder(folder, SHOP, "learner.state_dir")


def test_a_damaged_owner_file_is_refused_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / OWNER_FILE).write_bytes(b"\0" * 40)
    with pytest.raises(FolderTaken, match=r"does not name the owner of the folder.*remove"):
        claim_folder(tmp_path, SHOP, "learner.state_dir")


def test_a_disk_that_refuses_the_file_stops_no_program(tmp_path: Path) -> None:
    in_its_place = tmp_path / "a file"
    in_its_place.touch()
    claim_folder(in_its_place / "learner", SHOP, "learner.state_dir")
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]
