"""An HTTP client of a stack: asks once, or continuously."""

import json
import threading
import urllib.request
from typing import Any

TIMEOUT_S = 10.0
PAUSE_S = 0.05


def ask(port: int) -> dict[str, Any] | None:
    """Returns the answer to an event; None where there is none."""
    body = json.dumps({"events": [{"text": "where is my parcel"}]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/predict", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            answer: dict[str, Any] = json.load(reply)["answers"][0]
    except OSError:
        return None
    return None if "error" in answer else answer


class Client:
    """Asks continuously inside of the block, and counts the requests without an answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.asked = 0
        self.failed = 0

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(PAUSE_S):
            self.asked += 1
            self.failed += ask(self._port) is None
