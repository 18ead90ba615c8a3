"""Controls Toxiproxy between two programs: it cuts connections, delays, throttles, splits or drops their data.

Toxiproxy -> proxy(name, upstream) -> the client connects to Proxy.listen; `poison` adds a toxic, `cure` removes it
"""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from evals.load.asker import send_request
from evals.results.row import Skip
from services.local import children
from services.local.logfile import RotatingLog
from services.versions import ROOT

START_S = 10.0
POLL_INTERVAL_S = 0.05


def program() -> str:
    """Returns the toxiproxy-server on PATH, or in the test bed. Raises Skip if there is none."""
    testbed = [str(ROOT / "build" / "testbed" / "bin"), str(Path(os.environ.get("KAFKA_HOME", "")).parent / "bin")]
    binary = shutil.which("toxiproxy-server", path=os.pathsep.join([os.environ.get("PATH", ""), *testbed]))
    if binary is None:
        raise Skip("no toxiproxy-server on PATH or in build/testbed/bin (github.com/Shopify/toxiproxy)")
    return binary


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy from a program to a server. `listen` is the address that the program connects to."""

    api: "Toxiproxy"
    name: str
    listen: str

    def enable(self, enabled: bool) -> None:
        """Enables or disables the proxy. A disabled proxy cuts its connections and refuses new ones."""
        self.api.ask("POST", f"/proxies/{self.name}", {"enabled": enabled})

    def poison(self, kind: str, attributes: dict[str, int]) -> None:
        """Adds a toxic to both directions."""
        for stream in ("upstream", "downstream"):
            toxic = {"name": f"{kind}-{stream}", "type": kind, "stream": stream, "attributes": attributes}
            self.api.ask("POST", f"/proxies/{self.name}/toxics", toxic)

    def cure(self, kind: str) -> None:
        for stream in ("upstream", "downstream"):
            self.api.ask("DELETE", f"/proxies/{self.name}/toxics/{kind}-{stream}")


class Toxiproxy:
    """A Toxiproxy server with its HTTP API. It ends with this process."""

    def __init__(self, folder: Path) -> None:
        """Starts the server, with its log in `folder`. Raises Skip if it is not installed."""
        self._port = children.free_port()
        argv = [program(), "-host", "127.0.0.1", "-port", str(self._port)]
        self._process: subprocess.Popen[bytes] = children.start(argv, log=RotatingLog(folder / "toxiproxy.log"))
        deadline_s = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"toxiproxy-server did not start within {START_S:g} s; see its log in {folder}")
            # Nothing notifies us when a port is opened.
            time.sleep(POLL_INTERVAL_S)

    def proxy(self, name: str, upstream: str) -> Proxy:
        """Makes a new proxy to `upstream`, without toxics."""
        listen = f"127.0.0.1:{children.free_port()}"
        self.ask("POST", "/proxies", {"name": name, "listen": listen, "upstream": upstream, "enabled": True})
        return Proxy(self, name, listen)

    def close(self) -> None:
        children.stop(self._process)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request to the HTTP API and returns the decoded reply. Raises RuntimeError if it is refused."""
        status, content = send_request(f"127.0.0.1:{self._port}", path, body, method=method, timeout_s=START_S)
        if status >= HTTPStatus.BAD_REQUEST:
            raise RuntimeError(f"toxiproxy: {method} {path}: {status} {content.decode()}")
        return json.loads(content) if content else None

    def _answers(self) -> bool:
        try:
            self.ask("GET", "/version")
        except OSError:
            return False
        except ValueError:
            # In some releases the version is not JSON.
            return True
        return True
