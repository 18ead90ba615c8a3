"""The state folders of Ray that are removed, and those that are kept."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.cluster import FOLDER_PREFIX, state_folder

OWNER = """
import sys, time
from pathlib import Path
from serving.cluster import state_folder
with state_folder(Path(sys.argv[1])) as folder:
    (folder / "session").mkdir()
    print(folder, flush=True)
    time.sleep(600)
"""


@contextmanager
def owner_in(parent: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Yields a process that owns a folder in `parent`, and the folder."""
    argv = [sys.executable, "-c", OWNER, str(parent)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_folders_of_killed_processes_are_removed_and_those_of_others_kept(tmp_path: Path) -> None:
    """B25: `lifelong-ray-*` stayed in the temporary folder for ever after a SIGKILL."""
    (tmp_path / "another program").mkdir()
    with owner_in(tmp_path) as (killed, abandoned), owner_in(tmp_path) as (_, kept):
        killed.kill()
        killed.wait()
        assert (abandoned / "session").exists()
        with state_folder(tmp_path) as own:
            assert own.name.startswith(FOLDER_PREFIX)
            assert {path.name for path in tmp_path.iterdir()} == {kept.name, own.name, "another program"}
        assert not own.exists()


def test_what_only_looks_like_a_folder_of_ours_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"{FOLDER_PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{FOLDER_PREFIX}file").write_text("")
    (tmp_path / f"{FOLDER_PREFIX}of-somebody").mkdir()
    before = sorted(tmp_path.iterdir())
    with state_folder(tmp_path):
        pass
    assert sorted(tmp_path.iterdir()) == before
