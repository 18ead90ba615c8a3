"""Prints the packages that an installation will download, and their sizes, before it begins.

    pip install --dry-run --report -> addresses -> sizes (Content-Length) -> one message

The argument is a lock file (`locks/demo.lock`) or the project with extras (`.[local,dev]`). pip gets the lock file
without digests, because with digests it would download every file to learn its name.

Nothing is printed if torch is installed already or is a local file (PIP_FIND_LINKS): all other packages are small in
comparison. The script never fails; pip itself reports an unreachable index.
"""

import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 10.0
LARGE_BYTES = 50 << 20
TORCH = re.compile("torch *[=<>]")
CUDA_PREFIXES = ("nvidia-", "cuda-", "triton")


@dataclass(frozen=True)
class Download:
    """A package that would be downloaded. `num_bytes` is None if the server does not report the size."""

    name: str
    version: str
    url: str
    num_bytes: int | None


def main(wanted: str) -> None:
    """Prints what an installation of `wanted` downloads: a lock file, or the project with extras."""
    is_lock = wanted.endswith(".lock")
    lines = locked(wanted) if is_lock else declared()
    torch = resolve("--no-deps", *(line for line in lines if TORCH.match(line)))
    if torch is not None and all(url.startswith("file:") for _, _, url in torch):
        return
    print("Looking up what has to be downloaded ...", flush=True)
    if is_lock:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(lines))
            file.flush()
            found = resolve("--no-deps", "--requirement", file.name)
    else:
        found = resolve("--editable", wanted)
    report([package for package in found or () if not package[2].startswith("file:")])


def report(wanted: Sequence[tuple[str, str, str]]) -> None:
    """Requests the sizes of the packages (name, version, address), and prints the message."""
    with ThreadPoolExecutor(8) as threads:
        sizes = list(threads.map(download_size, (url for _, _, url in wanted)))
    found = [Download(*package, num_bytes) for package, num_bytes in zip(wanted, sizes, strict=True)]
    if found:
        print(message(found), flush=True)


def locked(lock: str) -> list[str]:
    """Returns the requirements in a lock file, each with its version and condition, without digests."""
    lines = Path(lock).read_text().splitlines()
    return [line.removesuffix(" \\") for line in lines if not line.startswith((" ", "#"))]


def declared() -> list[str]:
    """Returns the requirements in pyproject.toml."""
    dependencies: list[str] = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
    return dependencies


def resolve(*requirements: str) -> list[tuple[str, str, str]] | None:
    """Returns (name, version, address) of each package that pip would install; None if pip fails.

    `requirements` are arguments of `pip install`.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--disable-pip-version-check", "--dry-run", "--quiet", "--report", str(report)]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, *requirements],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if done.returncode or not report.exists():
            return None
        packages = json.loads(report.read_text())["install"]
    return [
        (package["metadata"]["name"], package["metadata"]["version"], package["download_info"]["url"])
        for package in packages
    ]


def download_size(url: str) -> int | None:
    """Returns the size in bytes of the file at an address; None if the server does not report it."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=trust()) as reply:
            length = reply.headers["content-length"]
    except (OSError, ValueError):
        return None
    return int(length) if length else None


def trust() -> ssl.SSLContext:
    """Returns a TLS context that trusts the certificates in PIP_CERT, too."""
    own = os.environ.get("PIP_CERT")
    return ssl.create_default_context(cafile=own if own and Path(own).is_file() else None)


def message(downloads: Iterable[Download]) -> str:
    """Returns the message, which names the large packages."""
    found = sorted(downloads, key=lambda download: -(download.num_bytes or 0))
    known = sum(download.num_bytes or 0 for download in found)
    unknown = sum(download.num_bytes is None for download in found)
    more = f", and {unknown} of unknown size" if unknown else ""
    lines = [f"This downloads {len(found)} packages, {megabytes(known)} together{more}. The large packages:"]
    for download in found:
        if download.num_bytes is not None and download.num_bytes >= LARGE_BYTES:
            lines.append(f"  {download.name} {download.version}: {megabytes(download.num_bytes)}")
    cuda = [download for download in found if download.name.lower().startswith(CUDA_PREFIXES)]
    if cuda:
        saved = megabytes(sum(download.num_bytes or 0 for download in cuda))
        lines += [
            f"{len(cuda)} of them ({saved}) are for NVIDIA GPUs. To leave them out, stop (Control-C) and run",
            "  make TORCH=<a CPU build: torch==VERSION+cpu, or a wheel's path> ...",
            "with PIP_EXTRA_INDEX_URL=<the CPU index that PyTorch's page names> or PIP_FIND_LINKS=<a folder>.",
            "The head of scripts/install.sh explains this.",
        ]
    return "\n".join(lines)


def megabytes(num_bytes: int) -> str:
    """Returns a size as text.

    >>> megabytes(163_000_000)
    '163 MB'
    """
    return f"{num_bytes / 1e6:.0f} MB"


if __name__ == "__main__":
    main(sys.argv[1])
