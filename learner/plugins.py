"""Classes of others by their import path: strategies of the user, strategies and plugins of Avalanche.

    my.module:Mine(alpha=0.4) --import_any--> the class, {"alpha": 0.4}

A path is `module:Class` or `module.Class`. Arguments stand in brackets, as Python literals.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from learner.config import IMPORT_PATH
from learner.errors import DataError
from wire.plugins import PluginError, parsed

PREFIX = "avalanche-"
"""What the short name of a class of Avalanche begins with; `learner.rounds.avalanche` knows these."""


def import_any(name: str) -> tuple[Any, dict[str, Any]]:
    """Imports what a path names, and returns it with the arguments in the brackets. Raises DataError."""
    path, arguments = parse(name)
    module, _, attribute = path.replace(":", ".").rpartition(".")
    try:
        with quiet():
            return getattr(import_module(module), attribute), arguments
    except (ImportError, AttributeError, ValueError) as error:  # the last: it names no module
        fix = f"PYTHONPATH must name the folder of {module.split('.')[0]}"
        raise DataError(f"{path} does not import: {error}. {fix}") from error


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """Splits a name into the path and the arguments in brackets. Raises DataError.

    >>> parse("my.module:Mine(alpha=0.5, sizes=[1, 2])")
    ('my.module:Mine', {'alpha': 0.5, 'sizes': [1, 2]})
    """
    try:
        return parsed(name, IMPORT_PATH)
    except PluginError as error:
        raise DataError(str(error)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Avalanche, which warns of its own imports and of deprecated calls, the latter past all filters.

    wandb, which it imports, stays off.
    """
    os.environ.setdefault("WANDB_MODE", "disabled")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        yield
