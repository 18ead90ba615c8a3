"""Runs an operator's maintenance: a backup and its restore, a rotation of keys, a change of code and back.

restore        backup, ... -> stop programs -> restore --force -> start programs
rotation       signing-keys new, ... -> rotate
change of code stop programs, start them from the tree of OTHER, ... -> stop programs, start them from this tree
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from bench.chaos.faults import FaultKind, maintenance
from bench.chaos.size import SceneSize
from bench.harness.process import lifelong_command
from services import keys
from services.settings import Settings, as_environment, replaced
from services.versions import ROOT
from wire.keyring import Kind

OTHER = "d465a6db37ffdf9dcc19b5a865ae5b8887f8aaf8"
"""A commit with the same format of the state. It must be updated with each change of the format."""

COMMAND_LIMIT_S = 60.0
"""How long a failing command is repeated: reports of stopped programs have to expire, and programs to read a file."""

PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Maintainer:
    """An operator. `stop` stops serve, learner and rollout; `start` starts them from a source tree.

    `folder` stands for another machine, whose power is never cut. `environment` is the environment of commands on the
    scene's machine.
    """

    folder: Path
    settings: Callable[[], Settings]
    environment: dict[str, str]
    stop: Callable[[], None]
    start: Callable[[Path], None]

    def kinds(self, size: SceneSize) -> list[FaultKind]:
        """Returns the possible operations. A change of code is possible only if this checkout has the other commit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        backup = self.folder / "backup"
        kinds = [
            maintenance("restore of a backup", lambda: self._back_up(backup), lambda: self._restore(backup), size),
            maintenance("rotation of keys", self._make_key, lambda: self._run("signing-keys", "rotate"), size),
        ]
        if (tree := other_tree(self.folder / "other")) is not None:
            kinds.append(maintenance("change of code", lambda: self._change_code(tree), self._change_back, size))
        return kinds

    def _back_up(self, backup: Path) -> str:
        shutil.rmtree(backup, ignore_errors=True)
        self._run("backup", str(backup))
        return f"{len(list(backup.rglob('*')))} files"

    def _restore(self, backup: Path) -> None:
        self.stop()
        self._run("restore", str(backup), "--force")
        self.start(ROOT)

    def _make_key(self) -> str:
        self._run("signing-keys", "new")
        return "a new key is in the key file"

    def _change_code(self, tree: Path) -> str:
        self.stop()
        self.start(tree)
        return f"to {OTHER[:8]}"

    def _change_back(self) -> None:
        self.stop()
        self.start(ROOT)

    def _run(self, *words: str) -> None:
        """Runs a command, and repeats it while it fails. Raises RuntimeError after COMMAND_LIMIT_S seconds."""
        env = os.environ | as_environment(self.settings()) | self.environment
        deadline_s = time.monotonic() + COMMAND_LIMIT_S
        while True:
            done = subprocess.run(lifelong_command(*words), env=env, capture_output=True, text=True, check=False)
            if not done.returncode:
                return
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"lifelong {' '.join(words)}: {(done.stderr or done.stdout).strip()[-500:]}")
            # Nothing notifies us when reports expire and programs read files.
            time.sleep(PAUSE_S)


def with_signing_key_file(file: Path, settings: Settings) -> Settings:
    """Writes new keys to a file, and returns settings with which every program follows this file."""
    ring = keys.add_key(None, Kind.NEXT)
    keys.write_keys(file, ring)
    return replaced(settings, {"signing_key": SecretStr(file.read_text())}).with_key_file(file)


def other_tree(folder: Path) -> Path | None:
    """Exports the source tree of OTHER, with our built kernels; returns None if this checkout lacks the commit."""
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", OTHER], capture_output=True, check=False)
    if archive.returncode:
        return None
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    # The name of a built kernel has a digest of its sources, so the other tree uses it only if they are the same.
    for built in (ROOT / "kernels/native").glob("*.so"):
        shutil.copy(built, folder / "kernels/native")
    return folder
