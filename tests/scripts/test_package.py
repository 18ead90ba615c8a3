"""What `pip install` gives: the source distribution, the wheel that is built from it, and the wheel alone in a new
environment. All of it is slow, as everything that we need is installed there.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from services.collisions import PACKAGES
from services.versions import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

C_SOURCE = "kernels/native/source/kernels.c"


def run(*argv: str | Path, cwd: Path, **environ: str) -> str:
    """Runs a program that must not find this checkout, and returns what it says."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LIFELONG"))}
    done = subprocess.run(argv, cwd=cwd, env=env | environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def build(folder: Path, **environ: str) -> Path:
    """Builds the source distribution into a folder, and the wheel from that; returns the wheel."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder, **environ)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_has_our_packages_alone_with_the_c_source_and_the_kernels(wheel: Path) -> None:
    files = names(wheel)
    folders = {name.partition("/")[0] for name in files}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {*PACKAGES}
    assert C_SOURCE in files
    assert len([name for name in files if name.endswith(".so")]) == 1
    assert {f"{package}/py.typed" for package in PACKAGES} <= {*files}
    licenses = {name.rpartition("/licenses/")[2] for name in files if "/licenses/" in name}
    assert licenses == {"LICENSE", "NOTICE"}
    assert "-linux_" in wheel.name


def test_the_source_distribution_has_what_builds_and_tests_it(wheel: Path) -> None:
    (archive,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        files = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {"LICENSE", "NOTICE", "Makefile", "docker/compose.yaml", "tests/conftest.py", "scripts/hatch_build.py"}
    assert wanted | {C_SOURCE} <= files
    assert not [name for name in files if name.endswith(".so")]


def test_without_a_compiler_the_wheel_is_one_for_every_machine(tmp_path: Path) -> None:
    wheel = build(tmp_path, CC="/no/compiler")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in names(wheel) if name.endswith(".so")]
    assert C_SOURCE in names(wheel)


def test_it_is_installed_into_an_empty_environment_and_runs_there(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    programs = tmp_path / "venv" / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", f"{wheel}[local]", cwd=tmp_path)
    assert "  demo " in run(programs / "lifelong", "--help", cwd=tmp_path)
    said = run(programs / "lifelong", "doctor", cwd=tmp_path, LIFELONG_STATE_DIR=str(tmp_path / "state"))
    lines = [line for line in said.splitlines() if line.startswith(("ok", "warn", "fail"))]
    assert len(lines) > 10
    assert not [line for line in lines if line.startswith("fail")]
    assert [line for line in lines if "encoder" in line and "minilm-l6" in line]
    assert [line for line in lines if "kernels" in line and "native" in line]
