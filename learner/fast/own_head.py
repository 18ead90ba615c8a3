"""A head of the user: makes the weights of a version of the exact sums of all labels, in the place of the ridge head.

    learner.head = "mine:NearestMean" --import, checked on example sums--> OwnHead
    sums of what was learnt --weights--> W_CR --checked--> a version as any other

The sums stay ours: what is learnt, taken out, renamed, restored or carried to another encoder is the same under every
head, to the last bit, and only what is made of it differs. Each version is solved from its sums; there is no update
after a few labels as the ridge head has (`learner.fast.solver`). The weights are not blended with class means either.

Shapes: R features, C classes.
"""

import hashlib
import inspect
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from learner.errors import DataError
from learner.fast.ridge import RidgeSums
from learner.plugins import import_any
from model.errors import NonFinite, WrongConfig

EXAMPLE: Final = (6, 3, 40)
"""Features, classes and samples of the sums on which a head is checked before it is used."""


class HeadSums(NamedTuple):
    """What was learnt: sums over all samples, exact in float64, of random features phi that are not negative.

    `gram_RR` is the sum of phi phi^T over all texts, `class_CR` that of phi over the samples of each class, and
    `counts_C`, int64, the number of these; 0 for a class that has none yet. The caller owns them.
    """

    gram_RR: Tensor
    class_CR: Tensor
    counts_C: Tensor


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

    def __init__(self, path: str, head: Head, digest: str) -> None:
        self.name = f"{path} {digest[:12]}"
        self._path = path
        self._head = head

    def weights(self, sums: HeadSums) -> Tensor:
        """Returns weights_CR, float32. Raises HeadFailed. No class needs no weights."""
        shape = sums.class_CR.shape
        if not shape[0]:
            return torch.zeros(shape)
        try:
            weights_CR = self._head.weights(sums)
        except (RuntimeError, TypeError, ValueError) as error:
            raise HeadFailed(f"learner.head {self._path}: {error!r}") from error
        if not isinstance(weights_CR, Tensor) or weights_CR.shape != shape:
            found = f"{list(weights_CR.shape)}" if isinstance(weights_CR, Tensor) else type(weights_CR).__name__
            raise HeadFailed(f"learner.head {self._path}: weights returned {found}; expected a tensor {list(shape)}")
        if not weights_CR.isfinite().all():
            raise HeadFailed(f"learner.head {self._path}: weights returned a number that is not finite")
        return weights_CR.detach().float()


def head_sums(sums: RidgeSums, num_classes: int) -> HeadSums:
    """Returns copies of the sums of the classes, which another thread may read. The Gram matrix is a copy already."""
    return HeadSums(sums.gram_RR, sums.class_CR[:num_classes].clone(), sums.counts_C[:num_classes].clone())


def head_of(path: str) -> OwnHead | None:
    """Returns the head that the setting `learner.head` names; None where it names none. Raises as `import_head`."""
    return import_head(path) if path else None


@lru_cache(maxsize=4)
def import_head(path: str) -> OwnHead:
    """Returns the head of an import path, with its arguments. Raises WrongConfig, which says what to mend."""
    try:
        cls, arguments = import_any(path)
    except DataError as error:
        raise WrongConfig(f"learner.head {path!r}: {error}") from error
    head = _made(path, cls, arguments)
    own = OwnHead(path, head, _digest(path, cls))
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


def _digest(path: str, cls: Any) -> str:
    try:
        file = inspect.getsourcefile(cls)
        return hashlib.sha256(Path(file or "").read_bytes()).hexdigest()
    except (TypeError, OSError) as error:
        raise WrongConfig(f"learner.head {path!r} needs its source, which names its versions: {error}") from error


def _example() -> HeadSums:
    num_features, num_classes, num_samples = EXAMPLE
    rng = torch.Generator().manual_seed(0)
    phi_NR = torch.rand(num_samples, num_features, generator=rng, dtype=torch.float64)
    one_hot_CN = torch.eye(num_classes, dtype=torch.float64)[torch.arange(num_samples) % num_classes].T
    return HeadSums(phi_NR.T @ phi_NR, one_hot_CN @ phi_NR, one_hot_CN.sum(dim=1).long())
