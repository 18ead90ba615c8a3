"""Tests that other distributions' packages with our names are found, and that the imported package is named."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from services import collisions
from services.collisions import PACKAGES, Collision, collisions_at_start, namesakes
from services.versions import ROOT
from tests.services.distributions import install


def only(found: list[Collision]) -> Collision:
    assert len(found) == 1
    return found[0]


def test_all_our_packages_are_looked_at() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert list(PACKAGES) == settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_nothing_collides_here() -> None:
    assert collisions_at_start() == []


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_ours_is_found_first(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, package, package)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    collision = only(collisions_at_start())
    assert (collision.package, collision.distributions, collision.is_ours) == (package, (package,), True)
    assert str(ROOT / package) in str(collision)


@pytest.mark.parametrize(
    ("distribution", "package"), [("openai-evals", "evals"), *((package, package) for package in PACKAGES[1:])]
)
def test_the_other_is_found_first(
    distribution: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, distribution, package)
    monkeypatch.syspath_prepend(tmp_path)
    collision = only(collisions_at_start())
    assert (collision.distributions, collision.is_ours) == ((distribution,), False)
    assert str(tmp_path / package) in str(collision)
    assert f"pip uninstall {distribution}" in collision.fix


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    install(tmp_path / "site", "kernels", "kernels")
    (tmp_path / "packages.zip").touch()
    path = [str(tmp_path / name) for name in ("absent", "packages.zip", "site")]
    assert namesakes(path) == {"kernels": ["kernels"]}


def test_a_folder_of_no_distribution_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    collision = only(collisions_at_start())
    assert (collision.distributions, collision.is_ours) == ((), False)
    assert f"Rename {tmp_path / 'model'}" in collision.fix


@pytest.mark.parametrize("order", [("kernels", "lifelong"), ("lifelong", "kernels")])
def test_of_both_in_one_folder_the_last_installed_wins(
    order: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for distribution in order:
        install(tmp_path, distribution, "kernels")
    monkeypatch.setattr(collisions, "HOME", tmp_path)
    monkeypatch.setattr(collisions, "PACKAGES", ("kernels",))
    monkeypatch.syspath_prepend(tmp_path)
    collision = only(collisions_at_start())
    assert (collision.distributions, collision.is_ours) == (("kernels",), order[-1] == "lifelong")


@pytest.mark.parametrize("package", PACKAGES)
def test_at_start_a_package_that_was_overwritten_is_noticed_whatever_the_other_distribution_is_called(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for distribution in ("lifelong", "another"):
        install(tmp_path, distribution, package)
    monkeypatch.setattr(collisions, "HOME", tmp_path)
    monkeypatch.setattr(collisions, "PACKAGES", (package,))
    monkeypatch.syspath_prepend(tmp_path)
    collision = only(collisions_at_start())
    assert (collision.package, collision.distributions, collision.is_ours) == (package, ("another",), False)


@pytest.mark.parametrize("package", ["kernels", "wire"])
def test_a_command_ends_with_78_and_one_sentence(package: str, tmp_path: Path) -> None:
    install(tmp_path, package, package)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "services.cli", "config", "check"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(f"lifelong: `{package}` is a package of Lifelong and of the distribution {package};")
    assert done.stderr.count("\n") == 1
