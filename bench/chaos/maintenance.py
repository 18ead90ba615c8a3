"""Does by commands what an operator does: a backup and its restore, a rotation of keys, a change of code and back.

restore        backup, ... -> all programs end -> restore --force -> they start
rotation       signing-keys new, ... -> rotate
change of code programs end, and start from the tree of OTHER, ... -> end, and start from this tree
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

OTHER = "5c32af65aada8716b7ac271fe2e4ff91cb77746c"
"""A commit whose state has the form of ours: to be raised with each change of the form."""

PATIENCE_S = 60.0
"""How long a command is repeated that waits for reports of ended programs to expire, or for programs to read a file."""

PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Maintainer:
    """What an operator needs. `stop` ends serve, learner and rollout; `start` starts them from a tree.

    `folder` is on another machine, whose power is never cut; `environment` is that of commands on this one.
    """

    folder: Path
    settings: Callable[[], Settings]
    environment: dict[str, str]
    stop: Callable[[], None]
    start: Callable[[Path], None]

    def kinds(self, size: SceneSize) -> list[FaultKind]:
        """Returns the operations that are possible: the change of code only where the other commit is there."""
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
        return "a key is handed out"

    def _change_code(self, tree: Path) -> str:
        self.stop()
        self.start(tree)
        return f"to {OTHER[:8]}"

    def _change_back(self) -> None:
        self.stop()
        self.start(ROOT)

    def _run(self, *words: str) -> None:
        """Runs a command, again while it says that a program is not ready for it. Raises RuntimeError."""
        env = os.environ | as_environment(self.settings()) | self.environment
        deadline_s = time.monotonic() + PATIENCE_S
        while (
            done := subprocess.run(lifelong_command(*words), env=env, capture_output=True, text=True, check=False)
        ).returncode:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"lifelong {' '.join(words)}: {(done.stderr or done.stdout).strip()[-500:]}")
            time.sleep(PAUSE_S)  # reports expire, and files are read, without a notice


def with_keys_in(file: Path, settings: Settings) -> Settings:
    """Returns settings whose keys lie in a new file, which every program follows."""
    ring = keys.added(None, Kind.NEXT)
    keys.write_keys(file, ring)
    return replaced(settings, {"signing_key": SecretStr(file.read_text())}).with_key_file(file)


def other_tree(folder: Path) -> Path | None:
    """Returns the source of OTHER, with the kernels that it would build; None where this checkout has it not."""
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", OTHER], capture_output=True, check=False)
    if archive.returncode:
        return None
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    for built in (ROOT / "kernels/native").glob("*.so"):  # named by its sources: of use where they are the same
        shutil.copy(built, folder / "kernels/native")
    return folder
