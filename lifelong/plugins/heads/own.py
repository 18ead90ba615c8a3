"""The user's head: computes the weights of a version from the exact sums over all labels, instead of the ridge head.

    learner.head = "mine:NearestMean" --import, checked on example sums--> OwnHead
    sums over all labels --weights--> W_CR --checked--> weights of a version

The user's class has one method and gets copies of the sums. The weights of every version are computed from the sums.
The ridge head has two more steps, which a user's head does not have: an incremental update after a few labels
(`learner.fast.solver`), and a blend with class means.

Shapes: R features, C classes.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final, Protocol, runtime_checkable

import torch
from torch import Tensor

from lifelong.plugins.source import source_digest
from model.errors import NonFinite, WrongConfig
from model.heads import HeadSums, LearnedState
from wire.plugins import PluginError, import_attribute, parse_call

EXAMPLE: Final = (6, 3, 40)
"""The numbers of features, classes and samples of the example sums on which a head is checked before it is used."""


@runtime_checkable
class Head(Protocol):
    """A classifier that is linear in the features and stateless: equal sums must give equal weights, bit for bit."""

    def weights(self, sums: HeadSums) -> Tensor:
        """Returns W_CR, a row for each class. There is at least one class.

        The product of a row and the features phi of a text is the logit of the class: about 0 for no and 1 for yes. The
        class with the highest logit is the answer. The service fits a temperature, which turns logits into
        probabilities.
        """


class HeadFailed(NonFinite):
    """The user's head raised an error or returned invalid weights."""

    reason = "head_failed"


class OwnHead:
    """The user's head. `name` is its import path with the digest of its source, which versions carry."""

    is_updated = False

    def __init__(self, path: str, head: Head, digest: str) -> None:
        self.name = f"{path} {digest[:12]}"
        self._path = path
        self._head = head

    def solver(self, learnt: LearnedState) -> Callable[[], Tensor]:
        """Returns a function that computes the weights from a copy of the current sums."""
        return partial(self.weights, learnt.head_sums())

    def weights(self, sums: HeadSums) -> Tensor:
        """Returns weights_CR, float32. Raises HeadFailed."""
        shape = sums.class_CR.shape
        # The user's class is not asked about a head without classes.
        if not shape[0]:
            return torch.zeros(shape)
        try:
            weights_CR = self._head.weights(sums)
        except Exception as error:
            # A user's class may raise anything, and the message must name the class.
            raise HeadFailed(f"learner.head {self._path}: {error!r}") from error
        if not isinstance(weights_CR, Tensor) or weights_CR.shape != shape:
            found = f"{list(weights_CR.shape)}" if isinstance(weights_CR, Tensor) else type(weights_CR).__name__
            raise HeadFailed(f"learner.head {self._path}: weights returned {found}; expected a tensor {list(shape)}")
        if not weights_CR.isfinite().all():
            raise HeadFailed(f"learner.head {self._path}: weights returned a value that is not finite")
        return weights_CR.detach().float()


class OwnHeads:
    """The family `own`: the setting `learner.head` is the import path of a class, with arguments."""

    name = "own"

    def claims(self, setting: str) -> bool:
        return bool(setting)

    def open(self, setting: str) -> OwnHead:
        return import_head(setting)


OWN: Final = OwnHeads()


@lru_cache(maxsize=4)
def import_head(path: str) -> OwnHead:
    """Returns the head at an import path such as `mine:Ridge(penalty=1.0)`. Raises WrongConfig with the fix."""
    try:
        name, arguments = parse_call(path)
    except PluginError as error:
        raise WrongConfig(f"learner.head {path!r}: {error}") from error
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        cls = import_attribute(f"{module}:{attribute}")
    except PluginError as error:
        fix = f"PYTHONPATH must name the folder of {module.split('.')[0]}"
        raise WrongConfig(f"learner.head {path!r}: {name} does not import: {error.__cause__}. {fix}") from error
    head = _instantiate(path, cls, arguments)
    own = OwnHead(path, head, source_digest(cls, f"learner.head {path!r}"))
    try:
        first = own.weights(_example())
        second = own.weights(_example())
    except HeadFailed as error:
        raise WrongConfig(str(error)) from error
    if not torch.equal(first, second):
        raise WrongConfig(
            f"learner.head {path!r}: the same sums give other weights; "
            "`weights` must not keep state or draw random numbers"
        )
    return own


def _instantiate(path: str, cls: Any, arguments: Mapping[str, Any]) -> Head:
    try:
        head = cls(**arguments)
    except (TypeError, ValueError, OSError) as error:
        raise WrongConfig(f"learner.head {path!r} cannot be made: {error!r}") from error
    if not isinstance(head, Head):
        raise WrongConfig(f"learner.head {path!r} has no method weights(sums); see docs/own-model.md")
    return head


def _example() -> HeadSums:
    """Returns the sums over samples with random features, whose classes alternate."""
    num_features, num_classes, num_samples = EXAMPLE
    rng = torch.Generator().manual_seed(0)
    phi_NR = torch.rand(num_samples, num_features, generator=rng, dtype=torch.float64)
    one_hot_CN = torch.eye(num_classes, dtype=torch.float64)[torch.arange(num_samples) % num_classes].T
    return HeadSums(phi_NR.T @ phi_NR, one_hot_CN @ phi_NR, one_hot_CN.sum(dim=1).long())
