"""The protocol `Head`: computes the weights of a version from the exact sums over all labels.

    learner.head = "" --ridge--> the ridge head, which a few labels can update (`learner.fast.solver`)
    learner.head = "mine:NearestMean" --own--> a class of the user (`lifelong.plugins.heads`), on the same sums

`learner.fast` keeps the sums. They are the same bits under every head, also after labels were erased, renamed, restored
or carried over to another encoder. A head only decides how weights are computed from the sums. Serving is the same for
all heads: a score is the product of the features and a row of the weights.

Shape suffixes: R random features, C classes.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from torch import Tensor

from model.errors import WrongConfig
from wire.plugins import Families, PluginError


class HeadSums(NamedTuple):
    """The sums over all samples from which a head computes its weights, exact in float64.

    phi are the random features of a sample, which are not negative.

    - `gram_RR`: the sum of phi phi^T over all samples.
    - `class_CR`: the sum of phi over the samples of each class.
    - `counts_C`, int64: the number of samples of each class; 0 for a class without samples.

    The caller owns the tensors and may change them.
    """

    gram_RR: Tensor
    class_CR: Tensor
    counts_C: Tensor


class LearnedState(Protocol):
    """What was learnt under one encoder, as a head sees it. Both methods copy, so another thread may use the result."""

    def head_sums(self) -> HeadSums:
        """Returns a copy of the sums over all labels."""

    def ridge_solver(self) -> Callable[[], Tensor]:
        """Returns a function that solves the ridge regression and returns W_CR, float32."""


class Head(Protocol):
    """A head computes the weights of a version. It is linear in the features, and stateless.

    Equal sums must give equal weights, bit for bit.

    - `name`: distinguishes versions of this head from versions of other heads.
    - `is_updated`: whether new labels update the previous solution, and class means and the newest labels are blended
      in. Otherwise every version is solved from the sums.
    """

    @property
    def name(self) -> str: ...
    @property
    def is_updated(self) -> bool: ...

    def solver(self, learnt: LearnedState) -> Callable[[], Tensor]:
        """Returns a function that returns W_CR, float32, one row for each class. Another thread may call it.

        The function raises NonFinite if the sums have no finite solution.
        """


class HeadFamily(Protocol):
    """A family of heads: opens a head by the setting `learner.head`, if it `claims` the setting."""

    @property
    def name(self) -> str: ...

    def claims(self, setting: str) -> bool:
        """Returns whether the setting names a head of this family."""

    def open(self, setting: str) -> Head:
        """Returns the head. Raises WrongConfig, which says how to correct the setting."""


class RidgeHeads:
    """The built-in family, and its only head: a ridge regression, whose solution `learner.fast` keeps."""

    name = "ridge"
    is_updated = True

    def claims(self, setting: str) -> bool:
        return not setting

    def open(self, setting: str) -> Head:
        return self

    def solver(self, learnt: LearnedState) -> Callable[[], Tensor]:
        return learnt.ridge_solver()


RIDGE: Final = RidgeHeads()

HEADS: Final = Families[HeadFamily]("heads", HeadFamily)
"""The families of heads: the built-in one, and those of plug-ins."""


def open_head(setting: str) -> Head:
    """Returns the head that the setting `learner.head` names. Raises WrongConfig."""
    try:
        return HEADS.claiming(setting).open(setting)
    except PluginError as error:
        raise WrongConfig(f"learner.head {setting!r}: {error}") from error
