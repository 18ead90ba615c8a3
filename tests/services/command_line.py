"""Runs commands as a shell would: each in a process of its own, with the output and the exit code that it leaves.

    lifelong("versions", "--json") --> a fork of a process that has imported what commands need --> main() --> Completed

The imports of a command take a second, and the tests run a hundred. Rejected: calling `main` in the process of the
tests (commands set up logs, signals and threads for a process that is theirs).
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = [
    "services.cli",
    "services.commands.ask",
    "services.commands.run",
    "services.doctor",
    "services.history",
    "services.label_commands",
    "services.refused",
    "services.settings_docs",
    "services.local.stack",
    "rollout.operator",
]
"""What the process that is forked has imported: no torch, whose threads a fork would wait for and not have."""

LONGEST_S = 200.0

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(PRELOADED)


def lifelong(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Runs `lifelong` with these words, and under no settings but those of `environ`."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("LIFELONG_")}
    with tempfile.TemporaryDirectory() as folder:
        stdout = Path(folder, "stdout")
        stderr = Path(folder, "stderr")
        process = _forks.Process(target=_run, args=(words, ours | environ, stdout, stderr))
        process.start()
        code = _exit_code(process)
        return subprocess.CompletedProcess(words, code, stdout.read_text(), stderr.read_text())


def _exit_code(process: BaseProcess) -> int:
    process.join(LONGEST_S)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    code = process.exitcode
    process.close()
    return code


def _run(words: tuple[str, ...], environ: dict[str, str], stdout: Path, stderr: Path) -> None:
    """Becomes the command: its arguments, its environment and its output are those of this process."""
    from services.cli import main

    for path, stream in ((stdout, sys.stdout), (stderr, sys.stderr)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["lifelong", *words]
    main()
