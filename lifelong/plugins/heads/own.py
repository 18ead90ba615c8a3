"""A head of the user: makes the weights of a version of the exact sums of all labels, in the place of the ridge head.

    learner.head = "mine:NearestMean" --import, checked on example sums--> OwnHead
    sums of what was learnt --weights--> W_CR --checked--> a version as any other

The class has one method, and gets copies of the sums. Each version is solved from its sums; there is no update after a
few labels as the ridge head has (`learner.fast.solver`). The weights are not blended with class means either.

Shapes: R features, C classes.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final, Protocol, runtime_checkable

import torch
from torch import Tensor

from lifelong.plugins.source import source_digest
from model.errors import NonFinite, WrongConfig
from model.heads import HeadSums, Learnt
from wire.plugins import PluginError, imported, parsed

EXAMPLE: Final = (6, 3, 40)
"""Features, classes and samples of the sums on which a head is checked before it is used."""


@runtime_checkable
class Head(Protocol):
    """A classifier that is linear in the features, without a state: equal sums give equal weights, bit for bit."""

    def weights(self, sums: HeadSums) -> Tensor:
        """Returns W_CR, a row for each class: a text gets the class whose row has the largest product with its phi.

        The products are logits, about 0 for no and 1 for yes; a temperature is fitted for them. There is a class.
        """


class HeadFailed(NonFinite):
    """A head of the user raised an error, or returned no weights."""

    reason = "head_failed"


class OwnHead:
    """The head that the settings name. `name` is its path with the digest of its source, as versions name it."""

    is_updated = False

    def __init__(self, path: str, head: Head, digest: str) -> None:
        self.name = f"{path} {digest[:12]}"
        self._path = path
        self._head = head

    def solver(self, learnt: Learnt) -> Callable[[], Tensor]:
        """Returns a function that makes the weights of the sums as they are now."""
        return partial(self.weights, learnt.head_sums())

    def weights(self, sums: HeadSums) -> Tensor:
        """Returns weights_CR, float32. Raises HeadFailed. No class needs no weights."""
        shape = sums.class_CR.shape
        if not shape[0]:
            return torch.zeros(shape)
        try:
            weights_CR = self._head.weights(sums)
        except Exception as error:
            # The class is another's: whatever it raises has to name it.
            raise HeadFailed(f"learner.head {self._path}: {error!r}") from error
        if not isinstance(weights_CR, Tensor) or weights_CR.shape != shape:
            found = f"{list(weights_CR.shape)}" if isinstance(weights_CR, Tensor) else type(weights_CR).__name__
            raise HeadFailed(f"learner.head {self._path}: weights returned {found}; expected a tensor {list(shape)}")
        if not weights_CR.isfinite().all():
            raise HeadFailed(f"learner.head {self._path}: weights returned a number that is not finite")
        return weights_CR.detach().float()


class OwnHeads:
    """The family `own`: a head is the import path of a class, with its arguments."""

    name = "own"

    def claims(self, setting: str) -> bool:
        return bool(setting)

    def open(self, setting: str) -> OwnHead:
        return import_head(setting)


OWN: Final = OwnHeads()


@lru_cache(maxsize=4)
def import_head(path: str) -> OwnHead:
    """Returns the head of an import path, with its arguments. Raises WrongConfig, which says what to mend."""
    try:
        name, arguments = parsed(path)
    except PluginError as error:
        raise WrongConfig(f"learner.head {path!r}: {error}") from error
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        cls = imported(f"{module}:{attribute}")
    except PluginError as error:
        fix = f"PYTHONPATH must name the folder of {module.split('.')[0]}"
        raise WrongConfig(f"learner.head {path!r}: {name} does not import: {error.__cause__}. {fix}") from error
    head = _made(path, cls, arguments)
    own = OwnHead(path, head, source_digest(cls, f"learner.head {path!r}"))
    try:
        first, again = own.weights(_example()), own.weights(_example())
    except HeadFailed as error:
        raise WrongConfig(str(error)) from error
    if not torch.equal(first, again):
        raise WrongConfig(f"learner.head {path!r}: the same sums give other weights; it may keep and draw nothing")
    return own


def _made(path: str, cls: Any, arguments: Mapping[str, Any]) -> Head:
    try:
        head = cls(**arguments)
    except (TypeError, ValueError, OSError) as error:
        raise WrongConfig(f"learner.head {path!r} cannot be made: {error!r}") from error
    if not isinstance(head, Head):
        raise WrongConfig(f"learner.head {path!r} has no method weights(sums); see docs/own-model.md")
    return head


def _example() -> HeadSums:
    num_features, num_classes, num_samples = EXAMPLE
    rng = torch.Generator().manual_seed(0)
    phi_NR = torch.rand(num_samples, num_features, generator=rng, dtype=torch.float64)
    one_hot_CN = torch.eye(num_classes, dtype=torch.float64)[torch.arange(num_samples) % num_classes].T
    return HeadSums(phi_NR.T @ phi_NR, one_hot_CN @ phi_NR, one_hot_CN.sum(dim=1).long())
