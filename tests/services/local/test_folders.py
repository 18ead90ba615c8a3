"""Tests private folders, and locks with one owner at a time."""

from pathlib import Path

from services.local.folders import is_locked, lock_file, new_folder, private_folder


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_private_folder_is_closed_to_others_even_if_it_was_open(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    folder.mkdir(parents=True, mode=0o755)
    assert mode(private_folder(folder)) == 0o700


def test_a_folder_of_the_user_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert mode(new_folder(tmp_path)) == 0o755
    assert mode(new_folder(tmp_path / "new")) == 0o700


def test_a_lock_has_one_owner_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    first = lock_file(path)
    assert first is not None
    assert is_locked(path)
    assert lock_file(path) is None
    first.close()
    assert not is_locked(path)
