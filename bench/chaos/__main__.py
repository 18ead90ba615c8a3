"""`python -m bench.chaos SCENE SIZE`: plays one scene. SIZE is JSON; the last line of output is the outcome, as JSON.

A scene is a process of its own because it may need a mount namespace, and because it is the parent of all processes
that it kills.
"""

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.chaos.apart import Apart
from bench.chaos.injection import Say
from bench.chaos.play import play
from bench.chaos.rows import SKIPPED
from bench.chaos.running import labelled_items
from bench.chaos.scene import Scene
from bench.chaos.size import SceneSize
from bench.chaos.up import Up
from bench.harness.process import BUILD
from evals.results.row import Skip

LOGS = BUILD / "bench" / "chaos"

SCENES: dict[str, Callable[[Path, SceneSize, Say], Scene]] = {"up": Up, "apart": Apart}


def main(scene: str, size: SceneSize) -> int:
    # After SIGTERM, too, the processes are stopped and the logs are saved.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The folder holds a Unix socket, whose path must be short.
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        playing = SCENES[scene](folder, size, _say)
        try:
            print(msgspec.json.encode(play(playing, labelled_items(), size, _say)).decode())
        finally:
            playing.close()
    except Skip as reason:
        print(reason)
        return SKIPPED
    finally:
        _save_logs(folder, scene)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _save_logs(folder: Path, scene: str) -> None:
    saved = LOGS / scene
    shutil.rmtree(saved, ignore_errors=True)
    # A skipped scene has no logs.
    if (folder / "logs").exists():
        shutil.copytree(folder / "logs", saved, ignore_dangling_symlinks=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], msgspec.json.decode(sys.argv[2], type=SceneSize)))
