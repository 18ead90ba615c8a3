"""Any strategy or plugin of Avalanche by import path, on our stages, through Avalanche's own loop.

    avalanche.training.supervised:EWC(ewc_lambda=0.4) --import, arguments--> strategy
    stage --> tensors_benchmark --> experience --> strategy.train             test items --> strategy.model

`avalanche-NAME` is short for a class of `avalanche.training.supervised`, whatever its capitals and underscores. A
plugin gets the plain template around it. Every class is given what its constructor takes of: a net, an optimizer, a
loss, the size of the batches, and `mem_size`; what else it needs stands in the brackets, as Python literals.

Rejected: a table of wrappers, one for each strategy, which would be behind theirs.

Shape suffix: N items.
"""

import ast
import inspect
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evals.continual.gradient import PREDICT_BATCH
from evals.streams.stage import Part
from learner.errors import DataError

PREFIX = "avalanche-"
SUPERVISED = "avalanche.training.supervised"
_NAME = re.compile(r"(?P<path>[\w.:-]+)(?:\((?P<arguments>.*)\))?")


def is_path(name: str) -> bool:
    """Whether a strategy's name is one that is looked up here."""
    return name.startswith(PREFIX) or ":" in name


class FoundClass(NamedTuple):
    """A class of Avalanche's, or after its kind, and the arguments that were given with its name."""

    name: str
    cls: type
    arguments: dict[str, Any]


def find(name: str) -> FoundClass:
    """What a name stands for. Raises DataError where it does not import or is no strategy."""
    with _quiet():
        path, arguments = _parsed(name)
        found = _imported(path)
        from avalanche.core import BasePlugin
        from avalanche.training.templates.base import BaseTemplate

        if not isinstance(found, type) or not issubclass(found, (BaseTemplate, BasePlugin)):
            raise DataError(f"{path} is neither a strategy nor a plugin of Avalanche")
    return FoundClass(name, found, arguments)


class Avalanche:
    """The contender. `capacity` is its `mem_size`. Raises DataError where arguments are missing or wrong."""

    precision = "fp32"

    def __init__(self, found: FoundClass, net: nn.Module, *, rate: float, batch: int, capacity: int, seed: int) -> None:
        given = {
            "model": net,
            "optimizer": torch.optim.SGD(net.parameters(), lr=rate),
            "criterion": nn.CrossEntropyLoss(),
            "train_mb_size": batch,
            "eval_mb_size": PREDICT_BATCH,
            "train_epochs": 1,
            "evaluator": None,
        }
        self._seed = seed
        self._capacity = capacity
        self._has_memory = "mem_size" in inspect.signature(found.cls).parameters
        with _quiet():
            self._strategy = _made(found, given, capacity)
        self._learnt: list[tuple[Tensor, Tensor]] = []

    def learn_many(self, part: Part[Tensor]) -> None:
        self._learnt.append((part.inputs.float(), part.labels_N))
        stages = len(self._learnt)
        with _quiet(), torch.random.fork_rng():
            from avalanche.benchmarks import tensors_benchmark

            torch.manual_seed(1_000 * self._seed + stages)  # it shuffles, and picks what it keeps, by torch's generator
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
    def num_bytes(self) -> int:
        """Of as many rows as the strategy may hold, as it gets them; what else it keeps cannot be seen from here."""
        if not self._learnt or not self._has_memory:
            return 0
        rows, labels_N = self._learnt[0]
        num_rows = min(self._capacity, sum(len(labels_N) for _, labels_N in self._learnt))
        return num_rows * (rows[0].nbytes + labels_N[0].nbytes)


def _made(found: FoundClass, given: Mapping[str, Any], capacity: int) -> Any:
    """The strategy; a plugin gets the plain template around it."""
    from avalanche.core import BasePlugin
    from avalanche.training.templates import SupervisedTemplate

    made = _called(found, {**given, "mem_size": capacity})
    return SupervisedTemplate(**given, plugins=[made]) if isinstance(made, BasePlugin) else made


def _called(found: FoundClass, given: Mapping[str, Any]) -> Any:
    """An object of the class, from what its constructor takes of `given` and from all arguments of the name."""
    parameters = inspect.signature(found.cls).parameters
    known = {key: value for key, value in given.items() if key in parameters} | found.arguments
    missing = [
        it.name
        for it in parameters.values()
        if it.default is it.empty and it.name not in known and it.kind not in (it.VAR_KEYWORD, it.VAR_POSITIONAL)
    ]
    if missing:
        short = found.name.split("(")[0]
        raise DataError(f"{found.name} needs {', '.join(missing)}: say {short}({missing[0]}=...)")
    try:
        return found.cls(**known)
    except (TypeError, ValueError) as error:
        raise DataError(f"{found.name} cannot be made: {error}") from error


def _parsed(name: str) -> tuple[str, dict[str, Any]]:
    """The path and the arguments in brackets.

    >>> _parsed("my.module:Mine(alpha=0.5, sizes=[1, 2])")
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


def _imported(path: str) -> Any:
    if path.startswith(PREFIX):
        return _by_short_name(path)
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise DataError(f"{path} does not import: {error}") from error


def _by_short_name(path: str) -> Any:
    known = {name.lower().replace("_", "-"): it for name, it in vars(import_module(SUPERVISED)).items()}
    names = sorted(name for name, it in known.items() if isinstance(it, type) and SUPERVISED in it.__module__)
    short = path.removeprefix(PREFIX)
    if short not in names:
        raise DataError(f"no strategy {path!r}: there are {', '.join(PREFIX + name for name in names)}")
    return known[short]


@contextmanager
def _quiet() -> Iterator[None]:
    """Avalanche warns of its own imports and deprecated calls, the latter past all filters; wandb stays off."""
    os.environ.setdefault("WANDB_MODE", "disabled")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        yield
