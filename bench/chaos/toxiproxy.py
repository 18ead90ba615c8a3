"""Toxiproxy between two programs: a connection that is cut, slow, narrow, in pieces, or a hole.

ToxiproxyServer -> proxy(name, upstream) -> Proxy.listen is given to the client; toxics come and go
"""

import http.client
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.row import Skip
from services.local import tether
from services.local.logfile import RotatingLog
from services.versions import ROOT

START_S = 10.0
LOOK_S = 0.05


def program() -> str:
    """The toxiproxy-server on PATH, or in the test bed. Raises Skip."""
    beside = [str(ROOT / "build" / "testbed" / "bin"), str(Path(os.environ.get("KAFKA_HOME", "")).parent / "bin")]
    found = shutil.which("toxiproxy-server", path=os.pathsep.join([os.environ.get("PATH", ""), *beside]))
    if found is None:
        raise Skip("no toxiproxy-server on PATH or in build/testbed/bin (github.com/Shopify/toxiproxy)")
    return found


@dataclass(frozen=True, slots=True)
class Proxy:
    """One way from a program to a server. `listen` is where the program connects to."""

    api: "Toxiproxy"
    name: str
    listen: str

    def enable(self, enabled: bool) -> None:
        """A proxy that is not enabled cuts its connections and refuses new ones."""
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
    """A server of proxies, with its HTTP interface. It ends with this process."""

    def __init__(self, folder: Path) -> None:
        """Raises Skip where there is none."""
        self._port = tether.free_port()
        argv = [program(), "-host", "127.0.0.1", "-port", str(self._port)]
        self._process: subprocess.Popen[bytes] = tether.start(argv, log=RotatingLog(folder / "toxiproxy.log"))
        deadline_s = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"toxiproxy-server did not start within {START_S:g} s: see {folder}")
            time.sleep(LOOK_S)  # nothing tells when a port is opened

    def proxy(self, name: str, upstream: str) -> Proxy:
        """A new way to `upstream`, free of toxics."""
        listen = f"127.0.0.1:{tether.free_port()}"
        self.ask("POST", "/proxies", {"name": name, "listen": listen, "upstream": upstream, "enabled": True})
        return Proxy(self, name, listen)

    def close(self) -> None:
        tether.stop(self._process)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request to its interface. Raises RuntimeError where it is refused."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            said = response.read()
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"toxiproxy: {method} {path}: {response.status} {said.decode()}")
        return json.loads(said) if said else None

    def _answers(self) -> bool:
        try:
            self.ask("GET", "/version")
        except OSError:
            return False
        except ValueError:  # the version is no JSON in some releases
            return True
        return True
