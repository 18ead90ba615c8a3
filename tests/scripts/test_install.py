"""What scripts/install.sh has pip do. A program that writes down its arguments stands in for Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from services.versions import ROOT

RECORDER = """#!/bin/sh
case "$1" in -c) exit 0 ;; esac
echo "$@" >>"$0.log"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout whose .venv has programs that do nothing but write down what they are asked for."""
    for name in ("scripts", "locks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "uv"):
        (programs / name).write_text(RECORDER)
        (programs / name).chmod(0o755)
    return tmp_path


def install(folder: Path, *arguments: str, torch: str = "") -> list[str]:
    """Runs the script; returns what the environment's Python was asked for."""
    done = subprocess.run(
        ["bash", "scripts/install.sh", *arguments],
        cwd=folder,
        env={**os.environ, "TORCH": torch},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    log = folder / ".venv" / "bin" / "python.log"
    lines = log.read_text().splitlines()
    log.unlink()
    return [line.partition("--quiet ")[2] or line for line in lines]


def test_the_lock_is_installed_with_digests_and_then_the_project_alone(folder: Path) -> None:
    assert install(folder, "demo") == [
        "scripts/downloads.py locks/demo.lock",
        "--no-deps --require-hashes --requirement locks/build.lock --requirement locks/demo.lock",
        "--no-deps --no-build-isolation --editable .",
    ]


def test_the_newest_releases_are_those_of_the_ranges(folder: Path) -> None:
    assert install(folder, "dev", "newest") == [
        "scripts/downloads.py .[local,dev]",
        "--upgrade --upgrade-strategy eager --editable .[local,dev]",
    ]


def test_another_torch_leaves_out_what_the_lock_has_for_gpus(folder: Path) -> None:
    assert install(folder, "dev", torch="torch==2.15.0+cpu torchvision==0.29.2+cpu") == [
        "--no-deps torch==2.15.0+cpu torchvision==0.29.2+cpu",
        "--no-deps --require-hashes --requirement locks/build.lock --requirement .venv/without-torch.lock",
        "--no-deps --no-build-isolation --editable .",
    ]
    whole = (folder / "locks" / "dev.lock").read_text().splitlines()
    kept = set((folder / ".venv" / "without-torch.lock").read_text().splitlines())
    left_out = {line.partition("==")[0] for line in whole if "==" in line and line not in kept}
    assert {"torch", "torchvision", "triton", "nvidia-cudnn-cu13", "cuda-toolkit"} <= left_out
    assert not [name for name in left_out if not name.startswith(("torch", "triton", "nvidia-", "cuda-"))]
    assert {"torchmetrics", "torchao", "tritonclient"}.isdisjoint(left_out)


def test_it_is_noted_what_was_installed_last(folder: Path) -> None:
    for arguments in (["demo"], ["dev", "newest"], ["dev"]):
        install(folder, *arguments)
    assert [path.name for path in (folder / ".venv").glob(".installed-*")] == [".installed-dev-locked"]


@pytest.mark.parametrize("arguments", [["all"], ["dev", "oldest"]])
def test_what_cannot_be_installed_is_refused(folder: Path, arguments: list[str]) -> None:
    done = subprocess.run(["bash", "scripts/install.sh", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 64
    assert "usage" in done.stderr
