"""Other distributions with a package of one of our names, such as `kernels` of Hugging Face.

    folders of sys.path --> kernels-0.11.0.dist-info ----.
    which kernels/__init__.py Python imports ------------'--> Collision: whose package it is, and what to do

In two folders of `sys.path` the first package wins. In one folder pip lets the later installation overwrite the files
of the earlier one, so the first file of each package is compared with the one that was installed with us. Nothing of
ours but this package, `services`, is imported before the check, so that its sentence comes in place of an ImportError.
Where a `services` in another folder wins, there is no check.

A start looks at the first files of our packages and at the names of distributions, which takes 2 ms. Only where a
package of ours has lost, and in `lifelong doctor`, every distribution is asked for its packages, which takes a quarter
of a second.
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
"""The folder that our packages are in."""

INIT = "__init__.py"
DIST_INFO = ".dist-info"


@dataclass(frozen=True, slots=True)
class Collision:
    """A package of ours of whose name there is another. `found` is the file that Python imports."""

    package: str
    distributions: tuple[str, ...]
    found: str
    is_ours: bool

    def __str__(self) -> str:
        others = f"the distribution {', '.join(self.distributions)}" if self.distributions else "something else"
        winner = "which is Lifelong's: what needs the other one fails" if self.is_ours else "so Lifelong cannot start"
        return f"`{self.package}` is a package of Lifelong and of {others}; Python imports {self.found}, {winner}"

    @property
    def fix(self) -> str:
        if not self.distributions:
            return f"Rename {self.found}, take its folder from PYTHONPATH, or run Lifelong in another folder"
        uninstall = f"pip uninstall {' '.join(self.distributions)}"
        return (
            f"Give Lifelong a virtual environment of its own; or `{uninstall}`, then `pip install --force-reinstall "
            "--no-deps lifelong`, since both may have had files of one name"
        )


def collisions(owners: Mapping[str, Iterable[str]]) -> Iterator[Collision]:
    """Yields each collision. `owners` are the distributions of packages, by the package's name."""
    for package in PACKAGES:
        others = tuple(dict.fromkeys(owner for owner in owners.get(package, ()) if owner != OURS))
        spec = PathFinder.find_spec(package)
        found = spec.origin if spec and spec.origin else f"no {package}/{INIT}"
        is_ours = Path(found).resolve() == HOME / package / INIT and _is_as_installed(package)
        if others or not is_ours:
            yield Collision(package, others, found, is_ours)


def collisions_at_start() -> list[Collision]:
    """Returns the collisions that names of distributions show, or, where a package of ours has lost, all."""
    found = list(collisions(namesakes(sys.path)))
    if all(collision.is_ours for collision in found):
        return found
    from importlib.metadata import packages_distributions

    return list(collisions(packages_distributions()))


def namesakes(path: Iterable[str]) -> dict[str, list[str]]:
    """Returns the distributions in the folders of `path` that install a package of ours by their own name."""
    owners: dict[str, list[str]] = {}
    for folder in path:
        for entry in _entries(folder):
            name = entry.partition("-")[0]
            if name in PACKAGES and entry.endswith(DIST_INFO) and _digest_in(Path(folder, entry), name) is not None:
                owners.setdefault(name, []).append(name)
    return owners


def _entries(folder: str) -> list[str]:
    """Returns the names in a folder; none where it cannot be read: the import of Python passes over it, too."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_as_installed(package: str) -> bool:
    """Whether the package in our folder is the one that was installed with us. A checkout always is."""
    from base64 import urlsafe_b64encode
    from hashlib import sha256

    digest = urlsafe_b64encode(sha256((HOME / package / INIT).read_bytes()).digest()).decode().rstrip("=")
    installed = [_digest_in(folder, package) for folder in HOME.glob(f"{OURS}-*{DIST_INFO}")]
    return digest in installed or not any(installed)


def _digest_in(folder: Path, package: str) -> str | None:
    """Returns the digest of the package's first file by the RECORD in `folder`; None where it has no such file."""
    record = folder / "RECORD"
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    rows = [line.split(",") for line in lines if line.startswith(f"{package}/{INIT},")]
    return rows[0][1].removeprefix("sha256=") if rows else None
