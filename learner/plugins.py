"""Imports the classes that settings name by an import path: a user's strategies, and strategies of Avalanche.

    my.module:Mine(alpha=0.4) --import_any--> the class Mine, {"alpha": 0.4}

A path is `module:Class` or `module.Class`, optionally with arguments in parentheses, as Python literals.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from learner.config import IMPORT_PATH
from learner.errors import DataError
from wire.plugins import PluginError, parse_call

PREFIX = "avalanche-"
"""Prefix of the short names of Avalanche's classes, which `learner.rounds.avalanche` resolves."""


def import_any(name: str) -> tuple[Any, dict[str, Any]]:
    """Imports the object that a path names; returns it, and the arguments in the path. Raises DataError."""
    path, arguments = parse(name)
    module, _, attribute = path.replace(":", ".").rpartition(".")
    try:
        with quiet():
            return getattr(import_module(module), attribute), arguments
    # `import_module` raises ValueError for an empty module name.
    except (ImportError, AttributeError, ValueError) as error:
        fix = f"PYTHONPATH must name the folder of {module.split('.')[0]}"
        raise DataError(f"{path} does not import: {error}. {fix}") from error


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """Splits a setting into the import path and the arguments in parentheses. Raises DataError.

    >>> parse("my.module:Mine(alpha=0.5, sizes=[1, 2])")
    ('my.module:Mine', {'alpha': 0.5, 'sizes': [1, 2]})
    """
    try:
        return parse_call(name, IMPORT_PATH)
    except PluginError as error:
        raise DataError(str(error)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the warnings of Avalanche's imports, and its deprecation warnings, which ignore all filters."""
    # Avalanche imports wandb, which must stay off.
    os.environ.setdefault("WANDB_MODE", "disabled")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        yield
