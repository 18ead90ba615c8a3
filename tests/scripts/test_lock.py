"""Checks requirements.lock: it has what is declared, and the document of what a release is made of is made of it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from services.versions import ROOT

LOCK = ROOT / "requirements.lock"


def locked() -> list[Requirement]:
    """Returns the libraries of the file, each with its version and the digests left out."""
    lines = LOCK.read_text().splitlines()
    return [Requirement(line.removesuffix(" \\")) for line in lines if not line.startswith((" ", "#"))]


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    return [Requirement(line) for line in (*project["dependencies"], *extras["local"])]


def test_every_declared_library_is_locked_at_a_version_that_is_allowed() -> None:
    versions: dict[str, list[str]] = {}
    for requirement in locked():
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        versions.setdefault(canonicalize_name(requirement.name), []).append(pin.version)
    for requirement in declared():
        found = versions.get(canonicalize_name(requirement.name), [])
        assert found, f"{requirement.name} is not in requirements.lock: make lock"
        assert all(requirement.specifier.contains(version) for version in found), f"{requirement}: make lock"


def test_every_file_has_a_digest_and_no_address() -> None:
    text = LOCK.read_text()
    assert text.count("--hash=sha256:") >= len(locked())
    assert all(line.endswith("\\") for line in text.splitlines() if not line.startswith((" ", "#")))
    assert "://" not in text
    assert "index" not in text


def test_the_document_names_every_locked_library(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/lock.sh", "requirements.lock", "pyproject.toml", "README.md"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv").symlink_to(sys.prefix)
    subprocess.run(["bash", "scripts/lock.sh", "sbom"], cwd=tmp_path, check=True, capture_output=True)
    document = json.loads((tmp_path / "dist" / "sbom.cdx.json").read_text())
    assert document["metadata"]["component"]["name"] == "lifelong"
    names = {canonicalize_name(component["name"]) for component in document["components"]}
    assert names == {canonicalize_name(requirement.name) for requirement in locked()}
