"""Runs any strategy or plugin of Avalanche, given by import path, on our stages through Avalanche's own loop.

    avalanche.training.supervised:EWC(ewc_lambda=0.4) --import, arguments--> strategy
    stage --> tensors_benchmark --> experience --> strategy.train             test items --> strategy.model

`avalanche-NAME` is short for a class of `avalanche.training.supervised`, whatever its capitals and underscores. A
plugin gets the plain template around it. The constructor of a class gets those of a net, an optimizer, a loss, the
batch sizes and `mem_size` that it has parameters for. Its other arguments stand in the brackets, as Python literals.

Where a recipe asks for a number of sample gradients, `GradientBudget` ends the training of a stage once there are as
many; Avalanche's own epochs would end at another number for each strategy.

Rejected: a table of wrappers, one for each strategy, which would lag behind Avalanche.

Shape suffix: N items.
"""

import ast
import inspect
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evals.continual.contender import Contender, Traits, Usage
from evals.continual.gradient import PREDICT_BATCH, Recipe
from evals.continual.passes import PassCounter
from evals.extra import require
from evals.streams.benchmark import Part
from learner.errors import DataError

PREFIX = "avalanche-"
SUPERVISED = "avalanche.training.supervised"
_NAME = re.compile(r"(?P<path>[\w.:-]+)(?:\((?P<arguments>.*)\))?")


def is_path(name: str) -> bool:
    """Whether a strategy's name is one that `find` imports."""
    return PREFIX in name or ":" in name


class ImportedClass(NamedTuple):
    """A strategy or plugin class, and the arguments that stood in the brackets of its name."""

    name: str
    cls: type
    arguments: dict[str, Any]


def find(name: str) -> ImportedClass:
    """Imports the class that a name stands for. Raises DataError where it does not import or is no strategy."""
    require("avalanche")
    with _quiet():
        path, arguments = _parse(name)
        cls = _import(path)
        from avalanche.core import BasePlugin
        from avalanche.training.templates.base import BaseTemplate

        if not isinstance(cls, type) or not issubclass(cls, (BaseTemplate, BasePlugin)):
            raise DataError(f"{path} is neither a strategy nor a plugin of Avalanche")
    return ImportedClass(name, cls, arguments)


class GradientBudget:
    """The plugin that ends the training of a stage: when the counter is at `end`, but not before one epoch is over."""

    def __init__(self, counter: PassCounter) -> None:
        self._counter = counter
        self.end = math.inf
        self.num_steps_left = 0
        """How many steps the first epoch of the stage still has."""

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.num_steps_left -= 1
        if self.num_steps_left <= 0 and self._counter.gradients >= self.end:
            strategy.stop_training()


class Avalanche(Contender[Tensor]):
    """The contender. `capacity` is its `mem_size`. Raises DataError where arguments are missing or wrong.

    It takes the rate, the batches and the passes of `recipe`; the strategy is Avalanche's.
    """

    traits = Traits(precision="fp32")

    def __init__(self, imported: ImportedClass, net: nn.Module, recipe: Recipe, *, capacity: int, seed: int) -> None:
        self._recipe = recipe
        self._counter = PassCounter()
        self._budget = GradientBudget(self._counter)
        common = {
            "model": net,
            "optimizer": recipe.optimizer(net, recipe.rate),
            "criterion": nn.CrossEntropyLoss(),
            "train_mb_size": recipe.batch,
            "eval_mb_size": PREDICT_BATCH,
            "train_epochs": math.ceil(recipe.passes) + 1 if recipe.passes else 1,
            "evaluator": None,
            "plugins": [self._budget],
        }
        if recipe.passes:
            common["batch_size_mem"] = recipe.replayed
        self._seed = seed
        self._capacity = capacity
        self._has_memory = "mem_size" in inspect.signature(imported.cls).parameters
        with _quiet():
            self._strategy = _strategy(imported, common, capacity)
        self._learnt: list[tuple[Tensor, Tensor]] = []

    def learn_many(self, part: Part[Tensor]) -> None:
        self._learnt.append((part.inputs.float(), part.labels_N))
        stages = len(self._learnt)
        if self._recipe.passes:
            self._budget.end = self._counter.gradients + self._recipe.passes * len(part)
            self._budget.num_steps_left = math.ceil(len(part) / self._recipe.batch)
        with _quiet(), torch.random.fork_rng(), self._counter.counting(self._strategy.model):
            from avalanche.benchmarks import tensors_benchmark

            # Avalanche shuffles and samples its memory by torch's global generator
            torch.manual_seed(1_000 * self._seed + stages)
            scenario = tensors_benchmark(
                train_tensors=self._learnt,
                test_tensors=self._learnt[:1],
                task_labels=[0] * stages,
                complete_test_set_only=True,
            )
            self._strategy.train(scenario.train_stream[stages - 1])

    @torch.no_grad()
    def predict_many(self, inputs: Tensor) -> Tensor:
        net = self._strategy.model.eval()
        return torch.cat([net(x.float()).argmax(dim=1) for x in torch.split(inputs, PREDICT_BATCH)])

    @property
    def usage(self) -> Usage:
        """Counts as many rows as the strategy may hold, in the type that it gets; its other state is not counted."""
        num_rows = 0
        num_bytes = 0
        if self._learnt and self._has_memory:
            rows, labels_N = self._learnt[0]
            num_rows = min(self._capacity, sum(len(labels_N) for _, labels_N in self._learnt))
            num_bytes = num_rows * (rows[0].nbytes + labels_N[0].nbytes)
        return Usage(
            samples=num_rows,
            num_bytes=num_bytes,
            gradients=self._counter.gradients,
            forwards=self._counter.forwards,
        )


def _strategy(imported: ImportedClass, common: Mapping[str, Any], capacity: int) -> Any:
    """Makes the strategy. A plugin gets the plain template around it."""
    from avalanche.core import BasePlugin
    from avalanche.training.templates import SupervisedTemplate

    instance = _construct(imported, {**common, "mem_size": capacity})
    if not isinstance(instance, BasePlugin):
        return instance
    return SupervisedTemplate(**_known(SupervisedTemplate, common) | {"plugins": [instance, *common["plugins"]]})


def _construct(imported: ImportedClass, common: Mapping[str, Any]) -> Any:
    """Constructs the class from those of `common` that it has parameters for, and from all arguments of its name."""
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


def _parse(name: str) -> tuple[str, dict[str, Any]]:
    """Splits a name into the path and the arguments in brackets.

    >>> _parse("my.module:Mine(alpha=0.5, sizes=[1, 2])")
    ('my.module:Mine', {'alpha': 0.5, 'sizes': [1, 2]})
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(f"{name!r} is no import path: say package.module:Class(argument=value)")
    try:
        call = ast.parse(f"it({match['arguments'] or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("an argument without a name")
        return match["path"], {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{name!r}: arguments are Python literals with their names, as in (alpha=0.5)") from error


def _import(path: str) -> Any:
    if path.startswith(PREFIX):
        return _by_short_name(path)
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise DataError(f"{path} does not import: {error}") from error


def _by_short_name(path: str) -> Any:
    known = {name.lower().replace("_", "-"): value for name, value in vars(import_module(SUPERVISED)).items()}
    names = sorted(name for name, value in known.items() if isinstance(value, type) and SUPERVISED in value.__module__)
    short = path.removeprefix(PREFIX)
    if short not in names:
        raise DataError(f"no strategy {path!r}: there are {', '.join(PREFIX + name for name in names)}")
    return known[short]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Avalanche, which warns of its own imports and of deprecated calls, the latter past all filters.

    wandb stays off.
    """
    os.environ.setdefault("WANDB_MODE", "disabled")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        yield
