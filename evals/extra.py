"""Packages that only measuring needs: the extra `evals`."""

from importlib.util import find_spec

from learner.errors import DataError


def require(package: str) -> None:
    """Raises DataError, which says how to install it, where `package` is missing."""
    if find_spec(package) is None:
        raise DataError(f"{package} is not installed: pip install 'lifelong[evals]' (in this folder: '.[evals]')")
