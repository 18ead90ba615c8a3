"""What of a Ray is left behind, and whether it still runs."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.cluster import FOLDER_PREFIX, RayLost, ServeState, own_folder, started, wait_while_it_runs

RUNS = ServeState(is_there=True, has_replica=True)
STARTS = ServeState(is_there=True, has_replica=False)

OWNER = """
import sys, time
from pathlib import Path
from serving.cluster import own_folder
with own_folder(Path(sys.argv[1])) as folder:
    (folder / "session").mkdir()
    print(folder, flush=True)
    time.sleep(600)
"""


@contextmanager
def owner_in(parent: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that owns a folder in `parent`, and the folder."""
    argv = [sys.executable, "-c", OWNER, str(parent)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_folders_of_killed_processes_are_removed_and_those_of_others_kept(tmp_path: Path) -> None:
    """B25: `lifelong-ray-*` stayed in the temporary folder after a SIGKILL, for ever."""
    (tmp_path / "another program").mkdir()
    with owner_in(tmp_path) as (killed, abandoned), owner_in(tmp_path) as (_, kept):
        killed.kill()
        killed.wait()
        assert (abandoned / "session").exists()
        with own_folder(tmp_path) as own:
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
    with own_folder(tmp_path):
        pass
    assert sorted(tmp_path.iterdir()) == before


def test_a_process_of_ray_that_ends_is_noticed_at_once() -> None:
    """F32: nobody looked at Ray."""
    with pytest.raises(RayLost, match="raylet of Ray ended"):
        wait_while_it_runs(threading.Event(), look=lambda: RUNS, ended=lambda: ["raylet"])


def test_a_process_of_ray_that_ends_while_replicas_start_is_noticed() -> None:
    """F32: a raylet that was killed then left `serve` waiting for ever."""
    never = threading.Event()
    with pytest.raises(RayLost, match="raylet of Ray ended"):
        started(never.wait, ended=lambda: ["raylet"])
    never.set()


def test_a_start_ends_as_it_ends() -> None:
    begun = list[str]()
    started(lambda: begun.append("replicas"), ended=list)
    assert begun == ["replicas"]
    with pytest.raises(ZeroDivisionError):
        started(lambda: 1 / 0, ended=list)


def test_an_application_that_was_removed_is_noticed() -> None:
    with pytest.raises(RayLost, match="was removed"):
        wait_while_it_runs(threading.Event(), look=lambda: ServeState(False, False), ended=list)


def test_a_serve_that_never_answers_is_gone() -> None:
    never = threading.Event()
    with pytest.raises(RayLost, match="has not answered"):
        wait_while_it_runs(threading.Event(), look=lambda: RUNS if never.wait() else None, ended=list, silence_s=1.5)
    never.set()


def test_a_serve_without_a_replica_is_started_again() -> None:
    """Serve waits for ever for a replica that hangs while it starts."""
    looks = [RUNS, RUNS, *([STARTS] * 20)]
    with pytest.raises(RayLost, match=r"no replica has run for 2 s"):
        wait_while_it_runs(threading.Event(), look=lambda: looks.pop(0), ended=list, start_s=1.5)
    assert len(looks) < 20


def test_replicas_that_never_start_are_started_again() -> None:
    never = threading.Event()
    with pytest.raises(RayLost, match="not started in 1 s"):
        started(never.wait, ended=list, within_s=1.0)
    never.set()


def test_a_serve_that_is_silent_for_a_while_is_waited_for() -> None:
    stop = threading.Event()
    answers: list[ServeState | None] = [RUNS, None, RUNS]

    def look() -> ServeState | None:
        if not answers:
            stop.set()
            return RUNS
        return answers.pop()

    wait_while_it_runs(stop, look=look, ended=list, silence_s=10)
    assert not answers
