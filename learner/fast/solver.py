"""Solves the head for each version: by rank-k updates of a base solution, which is solved from time to time.

    FastHead --sums, after MAX_ROWS / 2 labels or MAX_BATCHES / 2 versions--> base, solved in another thread
             --rows of each version since the base--> IncrementalHead --> weights

    A = A0 + Phi^T Phi      S = S0 + Phi^T Y      V = A0^-1 Phi^T      K = Phi V
    A^-1 = A0^-1 - V (I + K)^-1 V^T                                    (Woodbury 1950; Hager 1989)
    U = A^-1 S = U0 + V (I + K)^-1 (Y - Phi U0)                        (both lines combined)

Phi has a row of features for each text that was learnt since the base was solved, and Y has a row with a 1 for each
class of the text. Y - Phi U0 is the residual of the base. If texts or labels are unlearnt, a new base is solved.

The weights depend only on the sums at the base and on the batches of rows since then; the rows of each batch are
sorted. So the manifest lists the offsets of the base and of each batch (`HeadSolution`), and the same weights can be
computed again from these, bit for bit (`learner.release.rebuild`).

The rounding error does not grow with the stream: at most MAX_ROWS rows contribute to it, and the next base is solved
from the exact sums. Then the updated weights are compared with the next base. A difference means that labels were lost
or counted twice, and is logged as an error.

Rejected:

- solving the sums for each version: 0.1 s at 2,048 features.
- blending the newest labels into the solution from which the next updates start; `learner.fast.recency` blends them
  into the weights instead.
- recursive least squares, which carries A^-1 from label to label (ACIL, Zhuang et al. 2022; GACL, Zhuang et al. 2024).
  Without forgetting, rounding errors are not damped, so it needs float64, and each batch rewrites 33 MB. With
  forgetting, A^-1 grows without bound in directions without new texts.
- updating the Cholesky factor (Gill et al. 1974): its rotations are not matrix products, and all outputs have to be
  solved again.

Shapes: B rows of a batch, N rows since the base, R features, C classes.
"""

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from typing import Final, NamedTuple

import structlog
import torch
from msgspec import UNSET
from torch import Tensor

from learner.errors import BaseRefused
from learner.fast.fast_head import MAX_ROWS, FastHead, RowLog, Rows
from learner.fast.ridge import BaseSolution, on_grid, ridge_penalty
from model.kinds import Entries
from wire.kinds import row_names
from wire.records import HeadSolution

MAX_GAP: Final = 2e-4
"""The largest relative difference from the next base. Rounding causes up to 3e-5; one missing label of 12,000 causes
7e-4 or more."""

NUM_PROBES: Final = 8
"""The number of random combinations of classes in which two heads are compared. So the time of a comparison does not
depend on the number of classes."""


class IncrementalHead:
    """A ridge head that is updated by new samples: a base solution, and a row for each sample since.

    Rows are only appended, so other threads may read the weights after the first rows.
    """

    def __init__(self, base: BaseSolution) -> None:
        num_classes, num_features = base.weights_CR.shape
        self.base = base
        self._v_NR = torch.zeros(MAX_ROWS, num_features)
        self._k_NN = torch.zeros(MAX_ROWS, MAX_ROWS, dtype=torch.float64)
        self._residuals_NC = torch.zeros(MAX_ROWS, num_classes)
        self._solution_NC = torch.zeros(0, num_classes)
        self.num_rows = 0
        """The number of rows since the base, at most MAX_ROWS."""

    def learn_many(self, phi_BR: Tensor, entries: Entries) -> None:
        """Learns texts by their features phi_BR and their classes. Raises ValueError beyond MAX_ROWS rows."""
        first = self.num_rows
        last = first + len(phi_BR)
        if last > MAX_ROWS:
            raise ValueError(f"{last} rows since the base; expected at most {MAX_ROWS}: solve the next base first")
        phi_BR = on_grid(phi_BR).float()
        v_BR = self.base.inverse_times(phi_BR)
        self._v_NR[first:last] = v_BR
        targets_BC = entries.targets(len(phi_BR), len(self.base.weights_CR))
        self._residuals_NC[first:last] = targets_BC - phi_BR @ self.base.weights_CR.T
        k_BN = phi_BR.double() @ self._v_NR[:last].double().T
        # K is symmetric.
        self._k_NN[:last, first:last] = k_BN.T
        self._k_NN[first:last, :last] = k_BN
        self.num_rows = last

    def weights(self, rows_C: Tensor) -> Tensor:
        """Returns the current weights_CR of the rows `rows_C`, without their scale factors."""
        if len(self._solution_NC) != self.num_rows:
            self._solution_NC = self._solve(self.num_rows)
        weights_CR: Tensor = self.base.weights_CR[rows_C] + self._product(self._solution_NC[:, rows_C])
        return weights_CR

    def gap(self, base: BaseSolution, num_rows: int) -> float:
        """Returns the relative distance between the weights after the first `num_rows` rows and the weights of `base`.

        The norm is |L^T u|. It weighs each direction by the texts that have it, so it measures the outputs. The plain
        norm of the weights would be dominated by directions that hardly any text has, where rounding errors are
        largest. The distance is relative to the larger of the two bases, since one of them may be almost 0.
        """
        signs = torch.randint(0, 2, (len(base.weights_CR), NUM_PROBES), generator=torch.Generator().manual_seed(0))
        probes_CK = 2.0 * signs - 1.0

        def norm(weights_CR: Tensor) -> float:
            return float((base.factor_RR.T @ (weights_CR.T @ probes_CK)).norm())

        larger = max(norm(base.weights_CR), norm(self.base.weights_CR))
        weights_CR = self.base.weights_CR + self._product(self._solve(num_rows))
        return norm(weights_CR - base.weights_CR) / (larger if larger > 0 else 1.0)

    def check_base(self, base: BaseSolution, num_rows: int) -> None:
        """Raises BaseRefused if the weights after the first `num_rows` rows differ from `base`, the next base.

        Bases with different penalties are not compared, since they are bound to differ.
        """
        gap = self.gap(base, num_rows) if base.penalty == self.base.penalty else 0.0
        # The negated comparison refuses NaN, too.
        if not gap <= MAX_GAP:
            raise BaseRefused(
                f"the weights after {num_rows} rows differ from the next base by {gap:.2g} of its norm; expected at "
                f"most {MAX_GAP:g}: the rows and the sums contain different labels, so go on from the next base"
            )

    def _solve(self, num_rows: int) -> Tensor:
        """Returns X = (I + K)^-1 (Y - Phi U0) for the first `num_rows` rows.

        It is solved in float64, since the entries of K range from 1e-2 to 7.
        """
        inner_NN = torch.eye(num_rows, dtype=torch.float64) + self._k_NN[:num_rows, :num_rows]
        factor_NN = torch.linalg.cholesky(inner_NN)
        return torch.cholesky_solve(self._residuals_NC[:num_rows].double(), factor_NN).float()

    def _product(self, solution_NC: Tensor) -> Tensor:
        """Returns (V X)^T: the product of V with each column of X, as rows."""
        return solution_NC.T @ self._v_NR[: len(solution_NC)]


MAX_BATCHES: Final = 32
"""The most batches between two bases. The number is bounded because the manifest lists each batch."""

log = structlog.get_logger("learner")

METHOD: Final = 3
"""The version of this algorithm. Increase it with each change of the code that changes the weights."""

ARITHMETIC: Final = f"{METHOD}, torch {torch.__version__} {torch.backends.cpu.get_cpu_capability()}"
"""Identifies the algorithm and the rounding of its results: equal strings mean bit-equal weights."""


def is_of_this_method(solution: HeadSolution) -> bool:
    """Returns whether weights were computed by the current version of the algorithm, possibly with other rounding."""
    return solution.arithmetic.partition(",")[0] == ARITHMETIC.partition(",")[0]


class UpdateBatch(NamedTuple):
    """A batch of samples since the base: their features and classes. They were read below `offsets` in the topics."""

    offsets: dict[str, int]
    phi_BR: Tensor
    entries: Entries


class NextBase(NamedTuple):
    """A base that another thread is solving, from the sums of all records below `offsets`.

    These sums include the first `num_batches` batches since the current base.
    """

    solved: Future[BaseSolution]
    offsets: dict[str, int]
    num_batches: int


class HeadSolver:
    """Solves the weights of fast heads, one at a time.

    Bases are solved in `executor`; without it they are solved in the caller's thread when they are needed. `rows` are
    the samples that were learnt between the last two calls of `solve`.
    """

    def __init__(self, executor: Executor | None = None) -> None:
        self._executor = executor
        self._log: RowLog | None = None
        self._head: IncrementalHead | None = None
        self._base: dict[str, int] = {}
        self._arithmetic = ARITHMETIC
        self._batches: list[UpdateBatch] = []
        self._next: NextBase | None = None
        self._fading_share = 0.0
        self.rows = Rows(torch.empty(0, 0), [], [], are_all=False)

    @property
    def solution(self) -> HeadSolution:
        """The record of how the last weights were computed, for the manifest."""
        batches = tuple(batch.offsets for batch in self._batches)
        return HeadSolution(
            base=self._base, batches=batches, fading_share=self._fading_share or UNSET, arithmetic=self._arithmetic
        )

    def solve(
        self,
        fast_head: FastHead,
        offsets: Mapping[str, int],
        *,
        anew: bool = False,
        fading_share: float | None = None,
    ) -> Tensor:
        """Returns the weights_CR of `fast_head`, which has learnt all records below `offsets`.

        - `anew`: solve a new base from the sums, even if the current base can be updated.
        - `fading_share`: the share of the second head, of the newest labels (`learner.fast.recency`). By default the
          share follows from the losses of the two heads.
        """
        self.rows = fast_head.log.take(fast_head.served.config.head_features)
        # Heads of users are solved from the sums for each version.
        if not fast_head.head.is_updated:
            self._base = dict(offsets)
            self._arithmetic = f"{ARITHMETIC}, {fast_head.head.name}"
            return fast_head.solve()
        num_classes = len(fast_head.ridge.classes)
        self._take_next_base(num_classes)
        head = self._head
        if anew or head is None or fast_head.log is not self._log or not self._has_room(head, num_classes):
            self._log = fast_head.log
            self._next = None
            head = self._begin(fast_head.ridge.equations().solve(), dict(offsets), [])
        elif self.rows.labels:
            batch = UpdateBatch(dict(offsets), *_in_order(self.rows, fast_head))
            self._batches.append(batch)
            head.learn_many(batch.phi_BR, batch.entries)
        self._ask_for_next_base(head, fast_head)
        weights_CR = fast_head.finisher()(head.weights(torch.arange(num_classes)))
        penalty = ridge_penalty(fast_head.ridge.num_texts, ridge=fast_head.penalty)
        blended_CR, self._fading_share = fast_head.recency.blended(
            weights_CR, fast_head.served.features, penalty, share=fading_share
        )
        return blended_CR

    def _has_room(self, head: IncrementalHead, num_classes: int) -> bool:
        num_rows = head.num_rows + len(self.rows.labels)
        num_batches = len(self._batches) + bool(self.rows.labels)
        has_rows = num_classes <= head.base.num_rows
        return has_rows and self.rows.are_all and num_rows <= MAX_ROWS and num_batches <= MAX_BATCHES

    def _begin(self, base: BaseSolution, offsets: dict[str, int], batches: list[UpdateBatch]) -> IncrementalHead:
        """Begins with a new base, and learns the batches since this base."""
        self._head = IncrementalHead(base)
        self._base = offsets
        self._batches = batches
        for batch in batches:
            self._head.learn_many(batch.phi_BR, batch.entries)
        return self._head

    def _ask_for_next_base(self, head: IncrementalHead, fast_head: FastHead) -> None:
        # The other half is for the rows that come while the base is being solved.
        is_time = head.num_rows > MAX_ROWS // 2 or len(self._batches) > MAX_BATCHES // 2
        if self._executor is not None and self._next is None and is_time:
            solved = self._executor.submit(fast_head.ridge.equations().solve)
            self._next = NextBase(solved, self._batches[-1].offsets, len(self._batches))

    def _take_next_base(self, num_classes: int) -> None:
        if self._next is None or self._head is None or not self._next.solved.done():
            return
        solved, offsets, num_batches = self._next
        self._next = None
        base = solved.result()
        # Meanwhile there may be new classes for which the base has no rows.
        if base.num_rows < num_classes:
            return
        try:
            self._head.check_base(base, sum(len(batch.phi_BR) for batch in self._batches[:num_batches]))
        except BaseRefused as error:
            log.error("head_differs", reason=str(error))
        # If the two differ, the base is right, since it was solved from the exact sums.
        self._begin(base, offsets, self._batches[num_batches:])


def _in_order(rows: Rows, fast_head: FastHead) -> tuple[Tensor, Entries]:
    """Returns the features and classes of samples, sorted by classes and then by the bytes of their features.

    So the order of the rows, and with it the rounding, depends only on the rows.
    """
    row_of = fast_head.ridge.rows.by_label
    rows_B = [[row_of[name] for name in row_names(label)] for label in rows.labels]
    order = sorted(range(len(rows_B)), key=lambda place: (rows_B[place], rows.phi_BR[place].numpy().tobytes()))
    return rows.phi_BR[order], fast_head.ridge.entries([rows.labels[place] for place in order])
