"""Avalanche as a library: classes by import path, strategies made of them, and experiences made of tensors.

    avalanche.training.supervised:EWC(ewc_lambda=0.4) --find--> ImportedClass --make--> strategy

A path is `module:Class` or `module.Class`; `avalanche-NAME` is short for a class of `avalanche.training.supervised`,
whatever its capitals and underscores. Arguments stand in brackets, as Python literals. The others, such as the net, the
optimizer and the loss, come from the caller.

Rejected: a table of wrappers, one for each strategy, which would lag behind Avalanche.
"""

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from torch import Tensor

from learner.errors import DataError
from learner.extras import require
from learner.plugins import PREFIX, import_any, parse, quiet

SUPERVISED = "avalanche.training.supervised"


class ImportedClass(NamedTuple):
    """A strategy or plugin class, and the arguments that stood in the brackets of its name."""

    name: str
    cls: type
    arguments: dict[str, Any]


def find(name: str) -> ImportedClass:
    """Imports the class that a name stands for. Raises DataError where it does not import or is no strategy."""
    require("avalanche", extra="avalanche")
    with quiet():
        cls, arguments = _by_short_name(name) if name.startswith(PREFIX) else import_any(name)
        from avalanche.core import BasePlugin
        from avalanche.training.templates.base import BaseTemplate

        if not isinstance(cls, type) or not issubclass(cls, (BaseTemplate, BasePlugin)):
            raise DataError(f"{name} is no lifelong.Strategy, and neither a strategy nor a plugin of Avalanche")
    return ImportedClass(name, cls, arguments)


def has_memory(imported: ImportedClass) -> bool:
    """Whether the class has a memory of its own, whose size is `mem_size`."""
    return "mem_size" in inspect.signature(imported.cls).parameters


def make(imported: ImportedClass, common: Mapping[str, Any]) -> Any:
    """Makes the strategy. A plugin gets the plain template around it. Raises DataError for missing or wrong arguments.

    The constructor gets those of `common` that it has parameters for, and all arguments of the name.
    """
    with quiet():
        from avalanche.core import BasePlugin
        from avalanche.training.templates import SupervisedTemplate

        instance = _construct(imported, common)
        if not isinstance(instance, BasePlugin):
            return instance
        plugins = [instance, *common.get("plugins", ())]
        return SupervisedTemplate(**_known(SupervisedTemplate, common) | {"plugins": plugins})


def experiences(parts: Sequence[tuple[Tensor, Tensor]]) -> list[Any]:
    """Returns an experience of each part, its inputs and labels, all of one task."""
    with quiet():
        from avalanche.benchmarks import tensors_benchmark

        benchmark = tensors_benchmark(
            train_tensors=parts,
            test_tensors=parts[:1],
            task_labels=[0] * len(parts),
            complete_test_set_only=True,
        )
        return list(benchmark.train_stream)


def _construct(imported: ImportedClass, common: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(imported.cls).parameters
    arguments = _known(imported.cls, common) | imported.arguments
    missing = [name for name, parameter in parameters.items() if _is_required(parameter) and name not in arguments]
    if missing:
        short = imported.name.split("(")[0]
        raise DataError(f"{imported.name} needs {', '.join(missing)}: say {short}({missing[0]}=...)")
    try:
        return imported.cls(**arguments)
    except (TypeError, ValueError) as error:
        raise DataError(f"{imported.name} cannot be made: {error}") from error


def _known(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments that the constructor of `cls` has parameters for."""
    parameters = inspect.signature(cls).parameters
    return {key: value for key, value in arguments.items() if key in parameters}


def _is_required(parameter: inspect.Parameter) -> bool:
    is_variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    return parameter.default is parameter.empty and not is_variadic


def _by_short_name(name: str) -> tuple[Any, dict[str, Any]]:
    path, arguments = parse(name)
    known = {key.lower().replace("_", "-"): value for key, value in vars(import_module(SUPERVISED)).items()}
    names = sorted(key for key, value in known.items() if isinstance(value, type) and SUPERVISED in value.__module__)
    short = path.removeprefix(PREFIX)
    if short not in names:
        raise DataError(f"no strategy {path!r}: there are {', '.join(PREFIX + each for each in names)}")
    return known[short], arguments
