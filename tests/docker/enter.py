"""Becomes the first process of a container: `python enter.py SPEC.json`, as root, in namespaces of its own.

    a root of binds and tmpfs --> read-only, if it says so --> chroot --> the program, as its user and without rights

It is a program of `tests/docker/engine.py`, and imports the standard library alone. As pid 1 it hands on SIGTERM and
buries orphans, as the engine's own init does.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

DEVICES = ("null", "zero", "full", "random", "urandom")


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def main(spec: dict[str, Any]) -> int:
    root = Path(spec["root"])
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", root)
    for source, target in spec["image"].items():
        bind(Path(source), below(root, target), is_read_only=True)
    for link, target in spec["links"].items():
        path = below(root, link)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    for name, content in spec["files"].items():
        path = below(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for name, (uid, gid) in spec["folders"].items():
        path = below(root, name)
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, uid, gid)
    for volume in spec["volumes"]:
        bind(Path(volume["source"]), below(root, volume["target"]), is_read_only=volume["is_read_only"])
    for device in DEVICES:
        bind(Path("/dev") / device, root / "dev" / device, is_read_only=False)
    for name, options in spec["tmpfs"].items():
        below(root, name).mkdir(parents=True, exist_ok=True)
        mount("-t", "tmpfs", "-o", options, "tmpfs", below(root, name))
    for name in ("proc", "sys"):
        (root / name).mkdir()
    mount("-t", "proc", "proc", root / "proc")
    mount("--rbind", "-o", "ro", "/sys", root / "sys")
    below(root, spec["workdir"]).mkdir(parents=True, exist_ok=True)
    if spec["is_read_only"]:
        mount("-o", "remount,ro", root)
    socket.sethostname(spec["name"])
    os.chroot(root)
    os.chdir(spec["workdir"])
    return run(spec)


def below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def bind(source: Path, target: Path, *, is_read_only: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    mount("--bind", source, target)
    if is_read_only:
        mount("-o", "remount,bind,ro", target)


def run(spec: dict[str, Any]) -> int:
    """Runs the program; returns its exit code."""
    uid, gid = spec["user"]
    drop = ["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    as_user = ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *drop, "--"]
    child = subprocess.Popen([*as_user, *spec["argv"]], env=spec["environment"])
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
