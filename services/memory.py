"""How much memory programs use together, shared pages counted once."""

from collections.abc import Mapping

import psutil


def memory_of(roots: Mapping[str, int]) -> dict[str, int]:
    """Bytes by name: each root process (name -> pid) with all its descendants. A process that is gone counts nothing.

    A page that several processes share counts in parts (PSS) where the system tells; elsewhere once for each (RSS).
    """
    return {name: sum(_bytes_of(process) for process in _family(pid)) for name, pid in roots.items()}


def _family(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _bytes_of(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except psutil.NoSuchProcess:
        return 0
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    return int(getattr(full, "pss", full.rss))
