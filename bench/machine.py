"""Describes where and what was measured: the machine, the versions."""

import importlib.metadata
import platform
import re
from pathlib import Path

import psutil

from services.tune.table import num_cores, processor

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16")
"""The processor features that our kernels, or those of a library, use."""

PACKAGES = ("torch", "ray", "kafka-python", "redis", "tokenizers", "numpy")


def machine() -> str:
    """Describes the machine, for example as `2 x AMD EPYC 9R14, 24 GiB, avx2 avx512f`."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{num_cores()} x {processor()}, {memory:.0f} GiB, {' '.join(_flags()) or 'no known flags'}"


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that do the work."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def _flags() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(match.group(1).split()) if match else set()
    return [flag for flag in FLAGS if flag in present]
