"""Tests that the number of cores respects the limits of a container."""

import os
from pathlib import Path

import pytest

from services.cores import num_cores


@pytest.mark.parametrize(
    ("inner", "outer", "cores"),
    [("max 100000", "max 100000", 8), ("250000 100000", "max 100000", 2), ("max 100000", "50000 100000", 1)],
)
def test_a_limit_of_any_cgroup_around_the_process_counts(
    inner: str, outer: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(8)})
    folder = tmp_path / "fs" / "pod" / "container"
    folder.mkdir(parents=True)
    (folder / "cpu.max").write_text(f"{inner}\n")
    (folder.parent / "cpu.max").write_text(f"{outer}\n")
    own = tmp_path / "cgroup"
    own.write_text("1:cpuset:/\n0::/pod/container\n")
    assert num_cores(cgroups=tmp_path / "fs", own=own) == cores


def test_without_cgroups_those_count_that_the_process_may_run_on(tmp_path: Path) -> None:
    assert num_cores(cgroups=tmp_path, own=tmp_path / "none") == len(os.sched_getaffinity(0))


def test_an_old_hierarchy_has_no_limit_that_is_read(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("1:cpu:/pod\n")
    assert num_cores(cgroups=tmp_path, own=own) == len(os.sched_getaffinity(0))
