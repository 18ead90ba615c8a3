"""What the script installs, from archives and as it is fetched. The makers are a file server of this process."""

import functools
import hashlib
import http.server
import os
import platform
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from services.versions import ROOT

START = "bin/kafka-server-start.sh"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PROGRAM = f"toxiproxy-server-linux-{MACHINE}"


def write_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def pack(archive: Path, folder: Path, name: str) -> Path:
    with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w:xz") as tar:
        tar.add(folder, name)
    return archive


def install(folder: Path, *arguments: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "testbed.sh"), str(folder), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environ, text=True, capture_output=True, timeout=60)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


KUSTOMIZE = f"kustomize_v5.6.0_linux_{MACHINE}.tar.gz"
INSTALLED = ["bin/kustomize", "bin/toxiproxy-server", f"kafka/{START}"]


def test_archives_are_unpacked_once(tmp_path: Path) -> None:
    made = tmp_path / "made"
    archives = tmp_path / "archives"
    archives.mkdir()
    write_program(made / "kafka" / START)
    write_program(made / "bin" / "toxiproxy-server")
    write_program(made / "bin" / "kustomize")
    pack(archives / "kafka-1.0.tar.xz", made / "kafka", "kafka")
    pack(archives / "programs.tar.xz", made / "bin", "bin")
    assert install(tmp_path / "bed", archives).returncode == 0
    assert names(tmp_path / "bed") == INSTALLED
    assert install(tmp_path / "bed", tmp_path / "nowhere").returncode == 0, "what is there is left as it is"


@pytest.fixture
def makers(tmp_path: Path) -> Path:
    """A folder with what the makers publish."""
    folder = tmp_path / "makers"
    write_program(folder / "made" / START)
    kafka = pack(folder / "kafka.tgz", folder / "made", "kafka_2.13-1.0")
    digest = hashlib.sha512(kafka.read_bytes()).hexdigest().upper()
    (folder / "kafka.tgz.sha512").write_text(f"kafka.tgz: {digest[:64]}\n  {digest[64:]}\n")
    program = write_program(folder / PROGRAM)
    write_program(folder / "alone" / "kustomize")
    kustomize = folder / KUSTOMIZE
    with tarfile.open(kustomize, "w:gz") as tar:
        tar.add(folder / "alone" / "kustomize", "kustomize")
    lines = [f"{'0' * 64}  other-{MACHINE}"]
    lines += [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in (program, kustomize)]
    (folder / "checksums.txt").write_text("\n".join(lines) + "\n")
    return folder


@contextmanager
def served(folder: Path) -> Iterator[dict[str, str]]:
    """Serves a folder; yields the variables by which the script finds it."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield {
            "TESTBED_KAFKA_URL": f"{url}/kafka.tgz",
            "TESTBED_TOXIPROXY_URL": url,
            "TESTBED_KUSTOMIZE_URL": url,
        }
        server.shutdown()
        thread.join()


def test_what_is_fetched_is_installed(tmp_path: Path, makers: Path) -> None:
    with served(makers) as environ:
        done = install(tmp_path / "bed", **environ)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "bed") == INSTALLED


@pytest.mark.parametrize(
    ("name", "installed"), [("kafka.tgz", []), (PROGRAM, INSTALLED[2:]), (KUSTOMIZE, INSTALLED[1:])]
)
def test_what_has_another_checksum_is_not_installed(
    tmp_path: Path, makers: Path, name: str, installed: list[str]
) -> None:
    with (makers / name).open("ab") as file:
        file.write(b"more")
    with served(makers) as environ:
        done = install(tmp_path / "bed", **environ)
    assert done.returncode == 65
    assert "its publisher gives" in done.stderr
    assert names(tmp_path / "bed") == installed
