"""What is said before an installation. The script stands alone, so it is loaded by its path."""

import runpy
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "downloads.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def server() -> Iterator[str]:
    """Says that `/known` has 123 bytes, and nothing of anything else."""

    class Says(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path == "/known" else 404)
            self.send_header("content-length", "123")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing: the test's output is for its failures."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Says) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_the_size_is_asked_for(script: dict[str, Any], server: str) -> None:
    assert script["download_size"](f"{server}/known") == 123
    assert script["download_size"](f"{server}/unknown") is None
    assert script["download_size"]("http://127.0.0.1:1/nobody") is None


def test_the_large_ones_are_named_and_the_way_around_cuda(script: dict[str, Any]) -> None:
    download = script["Download"]
    said = script["message"](
        [
            download("small", "1.0", "", 5_000_000),
            download("torch", "2.13.0", "", 900_000_000),
            download("nvidia-cudnn", "9.1", "", 700_000_000),
            download("odd", "1.0", "", None),
        ]
    )
    assert "4 packages, 1605 MB together, and 1 of unknown size" in said
    assert "torch 2.13.0: 900 MB" in said
    assert "small" not in said
    assert "1 of them (700 MB) are for NVIDIA GPUs" in said
    assert "make TORCH=" in said


def test_without_cuda_nothing_is_said_of_it(script: dict[str, Any]) -> None:
    assert "NVIDIA" not in script["message"]([script["Download"]("torch", "2.13.0", "", 160_000_000)])


def test_torch_is_found_in_a_lock_and_among_what_is_declared(script: dict[str, Any]) -> None:
    lock = str(SCRIPT.parents[1] / "locks" / "dev.lock")
    for lines in (script["locked"](lock), script["declared"]()):
        (torch,) = [line for line in lines if script["TORCH"].match(line)]
        assert torch.startswith(("torch==", "torch>="))


def test_a_lock_is_read_without_its_digests(script: dict[str, Any], tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text("# made by\nnumpy==2.4 ; python_version < '3.12' \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\n")
    assert script["locked"](str(lock)) == ["numpy==2.4 ; python_version < '3.12'"]
