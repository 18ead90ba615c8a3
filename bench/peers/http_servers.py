"""Lists the peers of `bench/http.py`, makes their environments, and starts and stops them.

    HttpPeer --environment--> python with its packages --running_peer--> a port that answers

An environment is made once by pip, below build/bench/peers/venvs. A peer is missing if pip cannot install its packages
or if it does not answer. A missing peer is named, and goals are not judged without it.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.harness.process import PeerFailed
from bench.http_load import over_http, post
from bench.peers.exported import folder
from evals.results.row import NoResult
from services.local.children import free_port
from services.versions import ROOT

PROGRAM = ROOT / "bench" / "peers" / "http_apps.py"
WITH = ("numpy", "onnxruntime>=1.26,<2", "tokenizers")
INSTALL_S = 600.0
START_S = 120.0
STOP_S = 20.0

T = TypeVar("T")


def split_batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Splits items into batches of `size`. Items that do not fill the last batch are dropped.

    >>> split_batches("abcde", 2)
    ['ab', 'cd']
    """
    return [items[begin : begin + size] for begin in range(0, len(items) - size + 1, size)]


def texts_body(texts: Sequence[str]) -> dict[str, Any]:
    return {"texts": [*texts]}


def tensor_body(texts: Sequence[str]) -> dict[str, Any]:
    """Returns the body of an inference request of the Open Inference Protocol."""
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": [*texts]}]}


@dataclass(frozen=True, slots=True)
class HttpPeer:
    """Another server: an app of `bench/peers/http_apps.py` or of another file.

    `packages` are the packages of its environment. Without packages it runs in our environment.
    """

    name: str
    app: str
    packages: tuple[str, ...] = ()
    path: str = "/predict"
    body: Callable[[Sequence[str]], dict[str, Any]] = texts_body
    file: Path = PROGRAM

    def requests(self, port: int, texts: Sequence[str], batch: int) -> list[bytes]:
        """Returns requests of `batch` texts each."""
        return [post(self.path, self.body(each), port=port) for each in split_batches(texts, batch)]


PEERS = (
    HttpPeer("FastAPI, ORT INT8", "fastapi"),
    HttpPeer("Ray Serve @serve.batch, ORT INT8", "ray"),
    HttpPeer("LitServe, ORT INT8", "litserve", ("litserve>=0.2,<0.3",)),
    HttpPeer("BentoML, ORT INT8", "bentoml", ("bentoml>=1.4,<1.5",)),
    HttpPeer("MLServer, ORT INT8", "mlserver", ("mlserver>=1.6,<2",), "/v2/models/classifier/infer", tensor_body),
)


def environment(packages: Sequence[str]) -> Path:
    """Returns the Python of an environment with these packages, and makes the environment if necessary.

    Raises PeerFailed if the packages cannot be installed.
    """
    if not packages:
        return Path(sys.executable)
    home = folder("venvs") / packages[0].partition(">")[0]
    python = home / "bin" / "python"
    done = home / "installed"
    wanted = "\n".join((*packages, *WITH))
    if done.exists() and done.read_text() == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", *packages, *WITH],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise PeerFailed(f"{packages[0]} cannot be installed: {str(error.stderr)[-500:]}") from error
    done.write_text(wanted)
    return python


@contextmanager
def running_peer(peer: HttpPeer, model: Path, texts: Sequence[str]) -> Iterator[int]:
    """Starts a peer with the model in a folder, yields its port once it answers, and stops it on exit.

    Raises PeerFailed if it does not answer within START_S.
    """
    python = environment(peer.packages)
    port = free_port()
    log = folder("logs") / f"{peer.app}.log"
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(python), str(peer.file), peer.app, str(port), str(model)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environ,
            cwd=PROGRAM.parent,
            process_group=0,
        )
        try:
            _await_answer(process, peer.requests(port, texts, 1)[:1], port, log)
            yield port
        finally:
            _stop(process)


def _await_answer(process: "subprocess.Popen[bytes]", requests: Sequence[bytes], port: int, log: Path) -> None:
    end_s = time.monotonic() + START_S
    while True:
        if process.poll() is not None:
            raise PeerFailed(f"it ended with {process.returncode}: {log.read_text(errors='replace')[-500:]}")
        try:
            over_http(port, requests, num_clients=1, seconds=0.2)
        except NoResult as error:
            if time.monotonic() > end_s:
                raise PeerFailed(f"it did not answer within {START_S:g} s: {error}") from None
            time.sleep(0.5)
        else:
            return


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Stops the program and all its child processes, with SIGKILL if SIGTERM does not end it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
