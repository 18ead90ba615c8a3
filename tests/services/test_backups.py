"""Tests the check of a backup: every byte of every file counts, and each refusal names the file."""

from pathlib import Path

import msgspec
import pytest

from services.backups import MANIFEST, BackupManifest, BackupRefused, check_backup, list_files, read_manifest


def write(folder: Path) -> BackupManifest:
    """Writes a small backup."""
    (folder / "learner").mkdir(parents=True)
    (folder / "learner" / "1-v1.checkpoint").write_bytes(b"a checkpoint")
    (folder / "empty").write_bytes(b"")
    manifest = BackupManifest(
        release="1",
        created_ms=1,
        prefix="p:",
        current=1,
        versions=(1,),
        signers=("k",),
        files=tuple(list_files(folder)),
    )
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return manifest


def test_a_whole_backup_is_read_and_its_progress_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    manifest = write(tmp_path / "b")
    assert check_backup(tmp_path / "b", say=said.append) == manifest and manifest.num_bytes == len(b"a checkpoint")
    assert len(said) == len(manifest.files)


@pytest.mark.parametrize("name", ["learner/1-v1.checkpoint", "empty"])
def test_a_changed_or_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    for content in (b"A checkpoint", b"a checkpoint and more", None):
        (tmp_path / name).unlink()
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(BackupRefused, match=f"{name}: is missing, or was changed"):
            check_backup(tmp_path, say=lambda _: None)


def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    manifest = write(tmp_path / "b")
    (tmp_path / "outside").write_bytes(b"a checkpoint")
    files = [msgspec.structs.replace(file, path="../outside") for file in manifest.files if file.bytes]
    (tmp_path / "b" / MANIFEST).write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=tuple(files))))
    with pytest.raises(BackupRefused, match="outside: is missing"):
        check_backup(tmp_path / "b", say=lambda _: None)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "is not the manifest of a backup"),
        (b"[]", "is not the manifest of a backup"),
        (b"{}", "is None None; this program reads lifelong-backup 2"),
        (b'{"format":"lifelong-backup","format_version":1}', "is 'lifelong-backup' 1; this program reads"),
        (b'{"format":"lifelong-backup","format_version":2}', "is not the manifest of a backup"),
    ],
)
def test_what_is_no_manifest_is_refused_by_its_format(tmp_path: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(BackupRefused, match=why):
        read_manifest(tmp_path)
