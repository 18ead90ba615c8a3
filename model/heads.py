"""The door `Head`: what makes the weights of a version of the exact sums of all labels.

    learner.head = "" --ridge--> the ridge head, which few labels update (`learner.fast.solver`)
    learner.head = "mine:NearestMean" --own--> a class of the user (`lifelong.plugins.heads`), on the same sums

The sums stay those of `learner.fast`: what is learnt, taken out, renamed, restored or carried to another encoder is the
same under every head, to the last bit, and only what is made of it differs. Heads change nothing in `serving/`: scores
are products of features and rows.

Shapes: R features, C classes.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from torch import Tensor

from model.errors import WrongConfig
from wire.plugins import Families, PluginError


class HeadSums(NamedTuple):
    """What was learnt: sums over all samples, exact in float64, of random features phi that are not negative.

    `gram_RR` is the sum of phi phi^T over all texts, `class_CR` that of phi over the samples of each class, and
    `counts_C`, int64, the number of these; 0 for a class that has none yet. The caller owns them.
    """

    gram_RR: Tensor
    class_CR: Tensor
    counts_C: Tensor


class Learnt(Protocol):
    """What was learnt under one encoder. Both methods copy, so that another thread may go on with what they return."""

    def head_sums(self) -> HeadSums:
        """Returns the sums of all labels."""

    def ridge_solver(self) -> Callable[[], Tensor]:
        """Returns what solves the ridge head, W_CR."""


class Head(Protocol):
    """A head: linear in the features, without a state. Equal sums give equal weights, bit for bit.

    `name` tells its versions from those of other heads. If `is_updated`, a few labels update the solution of before,
    and class means and the newest labels are blended in; else every version is solved from its sums.
    """

    @property
    def name(self) -> str: ...
    @property
    def is_updated(self) -> bool: ...

    def solver(self, learnt: Learnt) -> Callable[[], Tensor]:
        """Returns a function that returns W_CR, float32, a row for each class. Another thread may call it.

        That raises NonFinite if there are no such weights.
        """


class HeadFamily(Protocol):
    """Opens the heads that it `claims`, by the setting `learner.head`."""

    @property
    def name(self) -> str: ...

    def claims(self, setting: str) -> bool:
        """Whether the setting says a head of this family."""

    def open(self, setting: str) -> Head:
        """Returns the head. Raises WrongConfig, which says what to mend."""


class RidgeHeads:
    """The built-in family, and its only head: a ridge regression, of which `learner.fast` keeps the solution."""

    name = "ridge"
    is_updated = True

    def claims(self, setting: str) -> bool:
        return not setting

    def open(self, setting: str) -> Head:
        return self

    def solver(self, learnt: Learnt) -> Callable[[], Tensor]:
        return learnt.ridge_solver()


RIDGE: Final = RidgeHeads()

HEADS: Final = Families[HeadFamily]("heads", HeadFamily)
"""The families of heads."""


def open_head(setting: str) -> Head:
    """Returns the head that the setting `learner.head` says. Raises WrongConfig."""
    try:
        return HEADS.claiming(setting).open(setting)
    except PluginError as error:
        raise WrongConfig(f"learner.head {setting!r}: {error}") from error
