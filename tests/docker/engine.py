"""Starts processes as a container engine would: Linux namespaces, a root of its own, a user without rights, volumes.

    Image (programs of this machine, its user, its folders) + Container --> enter.py in new namespaces --> a process

What an image holds is bound from this machine, read-only, and everything else is as in a container: the root is empty
but for that, no capability is left, a new volume belongs to the user whom the image gives its folder, and every
container has an address of its own in a network that only these containers see. It needs root.

Rejected: crun (it refuses machines with both versions of cgroups), and an engine (Docker's needs a daemon and images,
which a test may not have).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.resident_bytes import resident_bytes
from services.versions import ROOT
from tests.required import impossible, missing

BASE = (
    "/usr",
    *("/etc/ssl", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    *map(str, Path("/etc").glob("java-*-openjdk")),
)
"""What every image has of this machine."""

LINKS = {"/bin": "usr/bin", "/sbin": "usr/sbin", "/lib": "usr/lib", "/lib64": "usr/lib64"}

USERS = """\
root:x:0:0::/root:/bin/sh
appuser:x:1000:1000::/:/bin/sh
redis:x:999:1000::/data:/bin/sh
lifelong:x:10001:10001::/var/lib/lifelong:/bin/sh
"""


@dataclass(frozen=True, kw_only=True)
class Image:
    """What a container begins with. `folders` belong to these users, and a new volume there does, too."""

    user: tuple[int, int]
    programs: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    workdir: str = "/"


def our_image(environment: Mapping[str, str]) -> Image:
    """The image of docker/Dockerfile: the virtual environment of this machine in place of the one that it builds."""
    ours = (10001, 10001)
    folders = ("/var/lib/lifelong", "/secrets", "/secrets/service", "/secrets/replicas", "/secrets/redis")
    environment_of_python = os.path.realpath(sys.prefix)
    programs = (sys.base_prefix, str(ROOT), environment_of_python)
    return Image(
        user=ours,
        programs={path: path for path in programs},
        links={"/opt/lifelong": environment_of_python},
        folders=dict.fromkeys(folders, ours),
        environment={"PYTHONPATH": str(ROOT), "HOME": "/var/lib/lifelong", **environment},
        entrypoint=["lifelong"],
        workdir="/var/lib/lifelong",
    )


@dataclass(frozen=True, kw_only=True)
class Container:
    """How a container is started. `volumes` are (name or path, target, is_read_only)."""

    name: str
    image: Image
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: tuple[int, int] | None = None
    is_read_only: bool = False
    tmpfs: Sequence[str] = ()
    shm_bytes: int = 64 << 20
    volumes: Sequence[tuple[str, str, bool]] = ()


class Engine:
    """Containers that see one another by their names. Its folder holds volumes, logs and roots."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._network = f"ll{os.getpid() % 100_000}"
        self._containers: dict[str, int] = {}
        self._aliases: Mapping[str, str] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        _ip("netns", "add", self._network)
        _ip("-n", self._network, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._network, "link", "set", "bridge", "up")
        _ip("-n", self._network, "link", "set", "lo", "up")

    def close(self) -> None:
        for name in reversed([*self._processes]):
            self.stop(name)
        for name in self._containers:
            subprocess.run(["ip", "netns", "delete", self._namespace(name)], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "delete", self._network], check=False, capture_output=True)

    def know(self, names: Sequence[str], aliases: Mapping[str, str]) -> None:
        """Gives each container its address, before any of them starts, as each has the names of all.

        `aliases` are further names, by the name of their container.
        """
        self._aliases = aliases
        for number, name in enumerate(names, start=2):
            self._containers[name] = number
            namespace = self._namespace(name)
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
            peer = f"v{number}"
            _ip("-n", self._network, "link", "add", peer, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("-n", self._network, "link", "set", peer, "master", "bridge", "up")
            _ip("-n", namespace, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            _ip("-n", namespace, "link", "set", "eth0", "up")

    def start(self, container: Container) -> "subprocess.Popen[bytes]":
        """Starts a container, or starts it again."""
        spec = self._folder / f"{container.name}.json"
        spec.write_text(json.dumps(self._spec(container)))
        program = [sys.executable, str(Path(__file__).with_name("enter.py")), str(spec)]
        namespaces = ("--mount", "--pid", "--uts", "--ipc")
        unshare = ["unshare", *namespaces, "--fork", "--kill-child"]
        argv = ["ip", "netns", "exec", self._namespace(container.name), *unshare, *program]
        with self.log(container.name).open("ab") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self._processes[container.name] = process
        return process

    def stop(self, name: str, *, grace_s: float = 60.0) -> None:
        """Asks the first process to end, as an engine does, and kills the container if it does not."""
        process = self._processes.pop(name)
        if process.poll() is not None:
            return
        first = _first_process(process.pid)
        try:
            if first:
                os.kill(first, signal.SIGTERM)
            process.wait(grace_s if first else 0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def execute(self, name: str, argv: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Runs a command inside a running container, as its user, as `exec` and health checks do."""
        spec = json.loads((self._folder / f"{name}.json").read_text())
        first = _first_process(self._processes[name].pid)
        uid, gid = spec["user"]
        rights = ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        as_user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *rights, "--"]
        there = (f"--root=/proc/{first}/root", f"--wd=/proc/{first}/cwd")
        inside = ["nsenter", f"--target={first}", "--mount", "--pid", "--net", *there]
        command = [*inside, *as_user, *argv]
        environment = spec["environment"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def is_running(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def resident_bytes(self, name: str) -> int:
        """Memory of all processes of a container, shared pages counted by their share."""
        return resident_bytes({name: self._processes[name].pid})[name]

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def volume(self, name: str) -> Path:
        return self._folder / "volumes" / name

    def _namespace(self, name: str) -> str:
        return f"{self._network}-{self._containers[name]}"

    def _spec(self, container: Container) -> dict[str, object]:
        image = container.image
        root = self._folder / "roots" / container.name
        root.mkdir(parents=True, exist_ok=True)
        hosts = ["127.0.0.1 localhost", *map(self._host, self._containers)]
        programs = {path: path for path in BASE if Path(path).exists()} | dict(image.programs)
        return {
            "root": str(root),
            "name": container.name,
            "image": programs,
            "links": {**LINKS, **image.links},
            "files": {"/etc/hosts": "\n".join(hosts) + "\n", "/etc/passwd": USERS, "/etc/hostname": container.name},
            "folders": dict(image.folders),
            "volumes": [self._mounted(image, *volume) for volume in container.volumes],
            "tmpfs": {**_tmpfs(container.tmpfs), "/dev/shm": f"mode=1777,size={container.shm_bytes}"},
            "user": container.user or image.user,
            "workdir": image.workdir,
            "is_read_only": container.is_read_only,
            "environment": {
                "PATH": "/opt/lifelong/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOSTNAME": container.name,
                **image.environment,
                **container.environment,
            },
            "argv": [*image.entrypoint, *container.argv],
        }

    def _host(self, name: str) -> str:
        return f"10.77.0.{self._containers[name]} {name} {self._aliases.get(name, '')}"

    def _mounted(self, image: Image, source: str, target: str, is_read_only: bool) -> dict[str, object]:
        path = Path(source) if source.startswith("/") else self.volume(source)
        if not path.exists():
            path.mkdir(parents=True)
            # An engine gives a new volume the owner of the folder that it is mounted on; else it belongs to root.
            os.chown(path, *image.folders.get(target, (0, 0)))
        return {"source": str(path), "target": target, "is_read_only": is_read_only}


def _tmpfs(entries: Sequence[str]) -> dict[str, str]:
    """The mounts of compose's `tmpfs`: PATH or PATH:OPTIONS; everybody may write into one without options."""
    found: dict[str, str] = {}
    for entry in entries:
        path, _, options = entry.partition(":")
        found[path] = options or "mode=1777"
    return found


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        missing("namespaces", f"ip {' '.join(words)}: {done.stderr.strip()}")


def _first_process(pid: int) -> int:
    """The first process of a container, the child of `unshare` (once `ip netns exec`); 0 before it exists."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else 0


@contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """Yields an engine; without root, or without the programs, its test is skipped."""
    if os.geteuid() != 0:
        impossible("containers without an engine need root")
    for program in ("ip", "unshare", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            missing("namespaces", f"{program} is not installed (Debian: util-linux, iproute2)")
    folder.chmod(0o755)
    started = Engine(folder)
    try:
        yield started
    finally:
        started.close()
