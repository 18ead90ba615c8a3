"""Writes the pictures of the docs: plays the demo, and takes pictures of its page during and after the run.

python -m tests.services.page.screenshots [FOLDER]     default: docs
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.local.children import free_port
from services.versions import ROOT
from tests.services.page.browser import Browser, browsing
from tests.waiting import eventually

MAX_BYTES = 200_000

LEARNT_S = 3_600.0
"""Longest time for a demo on a busy machine."""

LOOKS: dict[str, tuple[int, int, str]] = {
    "page.png": (1_280, 1_000, "light"),
    "page-dark.png": (1_280, 1_000, "dark"),
    "page-phone.png": (390, 844, "light"),
}
"""The width and the height of the screen in each picture, and its scheme of colours."""


@contextmanager
def playing(folder: Path, port: int) -> Iterator[None]:
    """Plays the demo to its end and leaves its stack up during the block."""
    words = ["demo", "--stay", "--rate", "60", "--set", f"page.port={port}", "--set", f"state_dir={folder}"]
    said = folder / "said.txt"
    with said.open("w") as out:
        argv = [sys.executable, "-m", "services.cli", *words]
        with subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT) as process:
            try:
                eventually(lambda: _has_said(said, "stays up") or process.poll() is not None, within_s=LEARNT_S)
                assert process.poll() is None, said.read_text()
                yield
            finally:
                process.terminate()


def _has_said(said: Path, part: str) -> bool:
    return part in said.read_text()


def write_pictures(browser: Browser, folder: Path) -> None:
    """Writes a picture for each look, of at most MAX_BYTES."""
    for name, (width, height, scheme) in LOOKS.items():
        browser.look(width=width, height=height, scheme=scheme)
        browser.await_text("curve-text", "oracle")
        picture = browser.picture()
        assert len(picture) <= MAX_BYTES, f"{name} has {len(picture)} bytes"
        (folder / name).write_bytes(picture)


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        state = Path(temporary)
        port = free_port()
        with playing(state, port), browsing(state / "browser") as browser:
            browser.look()
            browser.open(f"http://127.0.0.1:{port}/")
            browser.value("document.getElementById('text').value = 'where is my parcel?'")
            browser.value("document.getElementById('ask').requestSubmit()")
            browser.await_text("answer", "sure")
            write_pictures(browser, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
