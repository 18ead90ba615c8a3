"""The number of cores that this process may use: the smaller of its CPU affinity and the CPU quota of its cgroups.

sched_getaffinity, cpu.max of its cgroup and of the parent cgroups (containers, systemd) -> whole cores, at least one
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def num_cores(*, cgroups: Path = CGROUPS, own: Path = OWN) -> int:
    """Returns the number of cores, at least 1. A limit is rounded down to whole cores."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([float(allowed), *_limits(cgroups, own)])))


def _limits(cgroups: Path, own: Path) -> Iterator[float]:
    """Yields the limit, in cores, of each cgroup (version 2) of the process that has one."""
    if not own.exists():
        return
    path = next((line[3:] for line in own.read_text().splitlines() if line.startswith("0::")), None)
    if path is None:
        return
    folder = cgroups / path.strip("/")
    for cgroup in (folder, *folder.parents):
        if (cgroup / "cpu.max").is_file():
            quota_us, period_us = (cgroup / "cpu.max").read_text().split()
            if quota_us != "max":
                yield int(quota_us) / int(period_us)
