"""Runs each command in its own process, as a shell would, and returns its output and exit code.

    lifelong("versions", "--json") --> fork of a server with the modules of the commands --> main() --> CompletedProcess

The fork server saves the imports: they take a second for a command, and the tests run a hundred commands. Rejected:
calling `main` in the process of the tests (a command configures the logs, signals and threads of its process).
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
"""Modules that the fork server imports. None imports torch: a fork lacks torch's threads and would wait for them."""

LONGEST_S = 200.0

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(PRELOADED)


def lifelong(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Runs `lifelong` with these words; only `environ` gives it settings."""
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
    """Turns this process into the command: sets its arguments, environment and output, and runs `main`."""
    from services.cli import main

    for path, stream in ((stdout, sys.stdout), (stderr, sys.stderr)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["lifelong", *words]
    main()
