"""Drives a headless Chromium by the DevTools protocol over a websocket: pages, keys, pictures and requests.

Rejected: Playwright (165 MB, a Node runtime among them, for the dozen commands that are needed).
"""

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.required import missing
from tests.waiting import eventually

STARTED_S = 60.0
ANSWERED_S = 60.0
MAX_MESSAGE = 1 << 26
"""Size of the largest message, a picture, in bytes."""

KEYS = {"Tab": 9, "Enter": 13, " ": 32}
"""Maps keys to their Windows key codes, which the protocol uses."""

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--hide-scrollbars",
)


class Browser:
    """One tab. `requests` has the addresses of its requests, `problems` the errors and warnings of its console.

    Events are taken in while a command waits for its reply.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.problems: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Returns the result of a command."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=ANSWERED_S))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, event: str, params: dict[str, Any]) -> None:
        match event:
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Log.entryAdded":
                self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Runtime.exceptionThrown":
                self.problems.append(str(params["exceptionDetails"]))
            case "Audits.issueAdded":
                self.problems.append(str(params["issue"]))

    def open(self, url: str) -> None:
        self.command("Page.navigate", url=url)
        eventually(lambda: bool(self.value("document.readyState === 'complete'")))

    def value(self, expression: str) -> Any:
        """Returns the value of an expression in the page."""
        reply = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def text(self, id: str) -> str:
        return str(self.value(f"document.getElementById('{id}').innerText"))

    def await_text(self, id: str, part: str) -> None:
        """Waits until an element's text has the part."""
        eventually(lambda: part in self.text(id))

    def press(self, key: str) -> None:
        code = KEYS[key]
        text = {"Enter": "\r", " ": " "}.get(key, "")
        down = {"type": "keyDown" if text else "rawKeyDown", "key": key, "windowsVirtualKeyCode": code}
        self.command("Input.dispatchKeyEvent", **down, **({"text": text} if text else {}))
        self.command("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Types a text into the element that has the focus."""
        self.command("Input.insertText", text=text)

    def tab_to(self, selector: str, *, at_most: int = 60) -> None:
        """Presses Tab until the element has the focus."""
        for _ in range(at_most):
            if self.value(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            self.press("Tab")
        raise AssertionError(f"{selector} is not reached by the keyboard")

    def look(self, *, width: int = 1_280, height: int = 900, scheme: str = "light", scale: float = 1.0) -> None:
        """Sets the size of the screen, and the preferred scheme of colours."""
        is_phone = width < 600
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=is_phone
        )
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, *, is_whole: bool = False) -> bytes:
        """Returns a PNG of the screen, or of the whole page."""
        reply = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=is_whole)
        return base64.b64decode(reply["data"])


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """Starts a browser with its profile in `folder`; skips the test, with the reason, if no browser is installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        missing("chromium", "Chromium is not installed (Debian: apt install chromium)")
    argv = [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            address = _address(folder, process)
            with connect(address, max_size=MAX_MESSAGE, open_timeout=STARTED_S, ping_interval=None) as socket:
                yield Browser(socket)
        finally:
            process.terminate()


def _address(folder: Path, process: "subprocess.Popen[bytes]") -> str:
    """Returns the address of the first tab."""
    import urllib.request

    file = folder / "DevToolsActivePort"
    eventually(lambda: (file.exists() and file.read_text().count("\n") >= 1) or process.poll() is not None)
    assert process.poll() is None, "the browser has ended"
    port = file.read_text().splitlines()[0]
    deadline_s = time.monotonic() + STARTED_S
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=ANSWERED_S) as reply:
            tabs = [tab for tab in json.load(reply) if tab["type"] == "page"]
        if tabs:
            return str(tabs[0]["webSocketDebuggerUrl"])
        assert time.monotonic() < deadline_s, "the browser has no tab"
