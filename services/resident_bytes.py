"""Measures the memory of process trees, with shared pages counted once if the system reports that."""

from collections.abc import Mapping

import psutil


def resident_bytes(roots: Mapping[str, int]) -> dict[str, int]:
    """Returns the bytes of each root process (name -> pid) with all its descendants; 0 for a process that has ended.

    A page that n processes share counts as 1/n for each (PSS) if the system reports that, else fully for each (RSS).
    """
    return {name: sum(map(_memory_bytes, _process_tree(pid))) for name, pid in roots.items()}


def _process_tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _memory_bytes(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except psutil.NoSuchProcess:
        return 0
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    return int(getattr(full, "pss", full.rss))
