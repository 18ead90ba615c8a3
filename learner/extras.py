"""Packages of the project's extras, which an installation may lack."""

from importlib.util import find_spec

from learner.errors import DataError


def is_installed(package: str) -> bool:
    """Whether `package` can be imported."""
    return find_spec(package) is not None


def require(package: str, *, extra: str) -> None:
    """Raises DataError, which says how to install it, where `package` is missing."""
    if not is_installed(package):
        raise DataError(how_to_install(package, extra=extra))


def how_to_install(package: str, *, extra: str) -> str:
    """Returns what to do where a package of an extra is missing."""
    return f"{package} is not installed: pip install 'lifelong[{extra}]' (in this folder: '.[{extra}]')"
