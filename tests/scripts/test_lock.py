"""Checks the locks: they have what is declared, and the document of what a release is made of is made of its lock."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from services.versions import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

EXTRAS = {
    "requirements.lock": ["local"],
    "locks/image.lock": ["avalanche", "media", "parquet", "registry", "s3", "traces"],
    "locks/demo.lock": ["local"],
    "locks/dev.lock": ["local", "dev"],
    "locks/bench.lock": ["local", "bench"],
}
LOCKS = [*EXTRAS, "locks/build.lock", "locks/sbom.lock"]
IN_TORCH_TXT = {"torch", "torchvision"}
"""Libraries of the image that have no digest: their builds for the processor have an index of their own."""


def locked(name: str) -> list[Requirement]:
    """Returns the libraries of the file, each with its version and the digests left out."""
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line.removesuffix(" \\")) for line in lines if not line.startswith((" ", "#"))]


def declared(extras: list[str]) -> list[Requirement]:
    """Returns what the project needs, and what these extras and those named in them need."""
    requirements = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    for extra in extras:
        for line in PROJECT["project"]["optional-dependencies"][extra]:
            requirement = Requirement(line)
            if requirement.name == "lifelong":
                requirements += declared(sorted(requirement.extras))
            else:
                requirements.append(requirement)
    return requirements


def locked_versions(name: str) -> dict[str, set[str]]:
    """Returns the versions of each library; some have another one for another Python."""
    versions: dict[str, set[str]] = {}
    for requirement in locked(name):
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        versions.setdefault(canonicalize_name(requirement.name), set()).add(pin.version)
    return versions


@pytest.mark.parametrize("name", EXTRAS)
def test_every_declared_library_is_locked_at_a_version_that_is_allowed(name: str) -> None:
    versions = locked_versions(name)
    if name == "locks/image.lock":
        assert not IN_TORCH_TXT & versions.keys()
        versions |= locked_versions("locks/torch.txt")
    for requirement in declared(EXTRAS[name]):
        found = versions.get(canonicalize_name(requirement.name))
        assert found, f"{requirement.name} is not in {name}: make lock"
        assert all(requirement.specifier.contains(version) for version in found), f"{requirement}: make lock"


def test_what_builds_the_project_is_locked() -> None:
    versions = locked_versions("locks/build.lock")
    for line in PROJECT["build-system"]["requires"]:
        requirement = Requirement(line)
        assert all(requirement.specifier.contains(version) for version in versions[requirement.name]), "make lock"
    assert "editables" in versions


@pytest.mark.parametrize("name", ["locks/demo.lock", "locks/dev.lock"])
def test_what_is_tried_and_tested_has_the_versions_of_the_release(name: str) -> None:
    here = locked_versions(name)
    differing = [
        library for library, versions in locked_versions("requirements.lock").items() if here[library] != versions
    ]
    assert differing == []


def test_no_library_makes_every_import_of_ray_slower() -> None:
    """jsonschema, which Ray imports, imports rfc3987_syntax if it is installed. This takes 1.3 s in each process."""
    assert not [name for name in LOCKS[:-1] if "rfc3987-syntax" in locked_versions(name)]


@pytest.mark.parametrize("name", LOCKS)
def test_every_file_has_a_digest_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    assert text.count("--hash=sha256:") >= len(locked(name)) > 5
    assert all(line.endswith("\\") for line in text.splitlines() if not line.startswith((" ", "#")))
    assert "://" not in text
    assert "index" not in text


def test_the_document_names_every_locked_library(tmp_path: Path) -> None:
    for folder in ("scripts", "locks"):
        (tmp_path / folder).mkdir()
    for name in ("scripts/lock.sh", "requirements.lock", "locks/sbom.lock", "pyproject.toml", "README.md"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv").symlink_to(sys.prefix)
    subprocess.run(["bash", "scripts/lock.sh", "sbom"], cwd=tmp_path, check=True, capture_output=True)
    document = json.loads((tmp_path / "dist" / "sbom.cdx.json").read_text())
    assert document["metadata"]["component"]["name"] == "lifelong"
    names = {canonicalize_name(component["name"]) for component in document["components"]}
    assert names == {canonicalize_name(requirement.name) for requirement in locked("requirements.lock")}
