"""Packages of the project's extras, which an installation may lack."""

from importlib.util import find_spec

from learner.errors import DataError


def require(package: str, *, extra: str) -> None:
    """Raises DataError, which says how to install it, where `package` is missing."""
    if find_spec(package) is None:
        raise DataError(f"{package} is not installed: pip install 'lifelong[{extra}]' (in this folder: '.[{extra}]')")
