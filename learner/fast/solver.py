"""Solves the head after every few labels: by rank-k updates, on a base that is solved anew from the sums now and then.

    FastHead --sums, every MAX_ROWS / 2 labels or MAX_BATCHES / 2 versions--> base, solved beside, used when it is there
             --rows of each version since the base--> IncrementalHead --> weights

    A = A0 + Phi^T Phi      S = S0 + Phi^T Y      V = A0^-1 Phi^T      K = Phi V
    A^-1 = A0^-1 - V (I + K)^-1 V^T                                    (Woodbury 1950; Hager 1989)
    U = A^-1 S = U0 + V (I + K)^-1 (Y - Phi U0)                        (the two lines above put together)

A row of Phi is a text that was learnt since the base, and a row of Y has a 1 for each of its classes: the residual is
what the base gets wrong. Where texts or labels are taken out, a new base is solved.

The weights are a function of the sums at the base and of the batches of rows since, each in an order of its own. So the
offsets of the base and of each batch (`HeadSolution`) are all that is needed to compute the same weights again, bit for
bit (`learner.release.rebuild`); how they were computed before the base does not matter.

The error does not grow with the stream: it is that of at most MAX_ROWS rows, and the next base is solved from the exact
sums. The two are compared then; a difference means that labels were lost or counted twice, and is an alarm.

Rejected: solving the sums for each version (0.1 s at 2,048 features), and blending the newest labels into the solution
itself, which the next updates start from (`learner.fast.recency` blends them into its weights). Recursive least
squares, which carries A^-1 from label to label (ACIL, Zhuang et al. 2022; GACL, Zhuang et al. 2024): without forgetting
nothing contracts its rounding errors, so that it needs float64, 33 MB of which every batch rewrites; with forgetting,
A^-1 grows without bound where texts no longer come. Updating the Cholesky factor (Gill et al. 1974): its rotations are
no matrix products, and all outputs have to be solved again.

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
"""The largest difference from the next base, relative to that: rounding makes up to 3e-5, one label of 12,000 that one
of the two lacks 7e-4 or more."""

NUM_PROBES: Final = 8
"""Random mixtures of the classes by which two heads are compared, so that many classes take no longer than a few."""


class IncrementalHead:
    """Holds a base and the rows since. Rows are only appended, so other threads may read what the first ones make."""

    def __init__(self, base: BaseSolution) -> None:
        num_classes, num_features = base.weights_CR.shape
        self.base = base
        self._v_NR = torch.zeros(MAX_ROWS, num_features)
        self._k_NN = torch.zeros(MAX_ROWS, MAX_ROWS, dtype=torch.float64)
        self._residuals_NC = torch.zeros(MAX_ROWS, num_classes)
        self._solution_NC = torch.zeros(0, num_classes)
        self.num_rows = 0
        """The number of rows since the base. The next base has to come before they are MAX_ROWS."""

    def learn_many(self, phi_BR: Tensor, entries: Entries) -> None:
        """Learns texts of these classes. Raises ValueError beyond MAX_ROWS."""
        first = self.num_rows
        last = first + len(phi_BR)
        if last > MAX_ROWS:
            raise ValueError(f"{last} rows since the base; expected at most {MAX_ROWS}: solve the next base before")
        phi_BR = on_grid(phi_BR).float()
        v_BR = self.base.inverse_times(phi_BR)
        self._v_NR[first:last] = v_BR
        targets_BC = entries.targets(len(phi_BR), len(self.base.weights_CR))
        self._residuals_NC[first:last] = targets_BC - phi_BR @ self.base.weights_CR.T
        k_BN = phi_BR.double() @ self._v_NR[:last].double().T
        self._k_NN[:last, first:last] = k_BN.T
        self._k_NN[first:last, :last] = k_BN
        self.num_rows = last

    def weights(self, rows_C: Tensor) -> Tensor:
        """Returns the weights of these classes as of now, weights_CR, without the factors of their rows."""
        if len(self._solution_NC) != self.num_rows:
            self._solution_NC = self._solve(self.num_rows)
        weights_CR: Tensor = self.base.weights_CR[rows_C] + self._product(self._solution_NC[:, rows_C])
        return weights_CR

    def gap(self, base: BaseSolution, num_rows: int) -> float:
        """Returns how far the weights after the first `num_rows` rows are from those of `base`, by what they answer.

        That is the norm |L^T u| of what is solved, which weighs each direction by the texts that lie in it, and is
        relative to that of the larger base: everything may have been taken out since ours. The norm of the weights
        themselves would be that of the directions of hardly any text, where rounding is the largest.
        """
        signs = torch.randint(0, 2, (len(base.weights_CR), NUM_PROBES), generator=torch.Generator().manual_seed(0))
        probes_CK = 2.0 * signs - 1.0

        def norm(weights_CR: Tensor) -> float:
            return float((base.factor_RR.T @ (weights_CR.T @ probes_CK)).norm())

        larger = max(norm(base.weights_CR), norm(self.base.weights_CR))
        weights_CR = self.base.weights_CR + self._product(self._solve(num_rows))
        return norm(weights_CR - base.weights_CR) / (larger if larger > 0 else 1.0)

    def check_base(self, base: BaseSolution, num_rows: int) -> None:
        """Raises BaseRefused where the weights after the first `num_rows` rows are not those of `base`, the next one.

        Bases of different penalties are not compared, as they are to differ.
        """
        gap = self.gap(base, num_rows) if base.penalty == self.base.penalty else 0.0
        if not gap <= MAX_GAP:  # written so that a NaN is refused
            raise BaseRefused(
                f"the weights after {num_rows} rows differ from the next base by {gap:.2g} of its norm; expected at "
                f"most {MAX_GAP:g}: rows and sums have not seen the same labels, so start anew on a base of the sums"
            )

    def _solve(self, num_rows: int) -> Tensor:
        """Returns X = (I + K)^-1 (Y - Phi U0) of the first rows. The small matrices are float64: K is 1e-2 to 7."""
        inner_NN = torch.eye(num_rows, dtype=torch.float64) + self._k_NN[:num_rows, :num_rows]
        factor_NN = torch.linalg.cholesky(inner_NN)
        return torch.cholesky_solve(self._residuals_NC[:num_rows].double(), factor_NN).float()

    def _product(self, solution_NC: Tensor) -> Tensor:
        """Returns V x of each column x, as rows."""
        return solution_NC.T @ self._v_NR[: len(solution_NC)]


MAX_BATCHES: Final = 32
"""The most batches since the base: each is named in the manifest."""

log = structlog.get_logger("learner")

METHOD: Final = 3
"""Counts the changes of how the weights are computed that make others of them."""

ARITHMETIC: Final = f"{METHOD}, torch {torch.__version__} {torch.backends.cpu.get_cpu_capability()}"
"""What decides how results are rounded."""


def is_of_this_method(solution: HeadSolution) -> bool:
    """Whether weights were computed as they are here, but for rounding."""
    return solution.arithmetic.partition(",")[0] == ARITHMETIC.partition(",")[0]


class UpdateBatch(NamedTuple):
    """What was learnt until `offsets`: features, and the classes."""

    offsets: dict[str, int]
    phi_BR: Tensor
    entries: Entries


class NextBase(NamedTuple):
    """A base that is being solved, of the sums below `offsets`, which hold the first `num_batches` batches."""

    solved: Future[BaseSolution]
    offsets: dict[str, int]
    num_batches: int


class HeadSolver:
    """Solves one fast head at a time; bases beside, in `executor` (None: when they are needed).

    `rows` are what was learnt between the last weights and those before.
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
        """Says how the last weights were computed."""
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
        """Returns weights_CR of what `fast_head` has learnt, which is everything below `offsets`.

        `fading_share` takes the place of that which the losses say (`learner.fast.recency`).
        """
        self.rows = fast_head.log.take(fast_head.served.config.head_features)
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
        """Goes on from `base`, with the batches since."""
        self._head = IncrementalHead(base)
        self._base = offsets
        self._batches = batches
        for batch in batches:
            self._head.learn_many(batch.phi_BR, batch.entries)
        return self._head

    def _ask_for_next_base(self, head: IncrementalHead, fast_head: FastHead) -> None:
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
        if base.num_rows < num_classes:  # classes have come that it has no row for
            return
        try:
            self._head.check_base(base, sum(len(batch.phi_BR) for batch in self._batches[:num_batches]))
        except BaseRefused as error:  # the base is made of the exact sums, so it is the one to go on from
            log.error("head_differs", reason=str(error))
        self._begin(base, offsets, self._batches[num_batches:])


def _in_order(rows: Rows, fast_head: FastHead) -> tuple[Tensor, Entries]:
    """Returns the rows in an order that depends on nothing but the rows: by classes, then by their bytes."""
    row_of = fast_head.ridge.rows.by_label
    rows_B = [[row_of[name] for name in row_names(label)] for label in rows.labels]
    order = sorted(range(len(rows_B)), key=lambda place: (rows_B[place], rows.phi_BR[place].numpy().tobytes()))
    return rows.phi_BR[order], fast_head.ridge.entries([rows.labels[place] for place in order])
