"""Finds other installed distributions with a package that is named like one of ours, such as Hugging Face's `kernels`.

    folders of sys.path --> kernels-0.11.0.dist-info ----.
    which kernels/__init__.py Python imports ------------'--> Collision: whose package it is, and the fix

If two folders of `sys.path` have a package of the same name, Python imports the first. Within one folder, pip lets a
later installation overwrite the files of an earlier one. So `__init__.py` of each package is compared with the file
that was installed with Lifelong. Of our packages, only `services` is imported before the check, so that the user sees
its message instead of an ImportError. If Python imports another distribution's `services`, there is no check.

A start looks at the `__init__.py` of our packages and at the names of distributions, which takes 2 ms. Only if one of
our packages is not imported, and in `lifelong doctor`, every distribution is searched for its packages, which takes a
quarter of a second.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGES = ("lifelong", "services", "evals", "rollout", "serving", "learner", "model", "wire", "kernels")
OURS = "lifelong"
HOME = Path(__file__).resolve().parent.parent
"""The folder with our packages."""

INIT = "__init__.py"
DIST_INFO = ".dist-info"


@dataclass(frozen=True, slots=True)
class Collision:
    """One of our packages whose name another package has, too.

    `found` is the file that Python imports, and `is_ours` says whether it is our file.
    """

    package: str
    distributions: tuple[str, ...]
    found: str
    is_ours: bool

    def __str__(self) -> str:
        others = f"the distribution {', '.join(self.distributions)}" if self.distributions else "something else"
        winner = "which is Lifelong's: users of the other one fail" if self.is_ours else "so Lifelong cannot start"
        return f"`{self.package}` is a package of Lifelong and of {others}; Python imports {self.found}, {winner}"

    @property
    def fix(self) -> str:
        if not self.distributions:
            return f"Rename {self.found}, remove its folder from PYTHONPATH, or run Lifelong in another folder"
        uninstall = f"pip uninstall {' '.join(self.distributions)}"
        return (
            f"Install Lifelong in its own virtual environment; or `{uninstall}`, then `pip install --force-reinstall "
            "--no-deps lifelong`, since both may have files with the same name"
        )


def collisions(owners: Mapping[str, Iterable[str]]) -> Iterator[Collision]:
    """Yields each collision. `owners` maps the name of a package to the distributions that have it."""
    for package in PACKAGES:
        others = tuple(dict.fromkeys(owner for owner in owners.get(package, ()) if owner != OURS))
        spec = PathFinder.find_spec(package)
        path = spec.origin if spec and spec.origin else f"no {package}/{INIT}"
        is_ours = Path(path).resolve() == HOME / package / INIT and _is_as_installed(package)
        if others or not is_ours:
            yield Collision(package, others, path, is_ours)


def collisions_at_start() -> list[Collision]:
    """Returns the collisions with distributions that are named like our packages.

    If Python does not import one of our packages, all distributions are searched for the cause.
    """
    found = list(collisions(namesakes(sys.path)))
    if all(collision.is_ours for collision in found):
        return found
    from importlib.metadata import packages_distributions

    return list(collisions(packages_distributions()))


def namesakes(path: Iterable[str]) -> dict[str, list[str]]:
    """Returns the distributions in the folders of `path` that have the name of one of our packages and contain it."""
    owners: dict[str, list[str]] = {}
    for folder in path:
        for entry in _list_folder(folder):
            name = entry.partition("-")[0]
            if name not in PACKAGES or not entry.endswith(DIST_INFO):
                continue
            if _recorded_digest(Path(folder, entry), name) is not None:
                owners.setdefault(name, []).append(name)
    return owners


def _list_folder(folder: str) -> list[str]:
    """Returns the names in a folder; none if it cannot be read, since Python's import skips such a folder, too."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_as_installed(package: str) -> bool:
    """Returns whether the package in our folder was installed with Lifelong; always True in a checkout."""
    from base64 import urlsafe_b64encode
    from hashlib import sha256

    digest = urlsafe_b64encode(sha256((HOME / package / INIT).read_bytes()).digest()).decode().rstrip("=")
    installed = [_recorded_digest(folder, package) for folder in HOME.glob(f"{OURS}-*{DIST_INFO}")]
    return digest in installed or not any(installed)


def _recorded_digest(folder: Path, package: str) -> str | None:
    """Returns the digest of the package's `__init__.py` in the RECORD in `folder`; None if RECORD does not list it."""
    record = folder / "RECORD"
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    rows = [line.split(",") for line in lines if line.startswith(f"{package}/{INIT},")]
    return rows[0][1].removeprefix("sha256=") if rows else None
