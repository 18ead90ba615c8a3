"""Solves the head after every few labels: by rank-k updates, on a base that is solved anew from the sums now and then.

    FastHead --sums, every MAX_ROWS / 2 labels or MAX_BATCHES / 2 versions--> base, solved beside, used when it is there
             --rows of each version since the base--> weights

The weights are a function of the sums at the base and of the batches of rows since, each in an order of its own. So the
offsets of the base and of each batch (`HeadSolution`) are all that is needed to compute the same weights again, bit for
bit (`learner.release.rebuild`); how they were computed before the base does not matter.

Rejected: solving the sums for each version (0.1 s at 2,048 features), and blending the newest labels into the solution
itself, which the next updates start from (`learner.fast.fading` blends them into its weights).
"""

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from typing import Final, NamedTuple

import structlog
import torch
from msgspec import UNSET
from torch import Tensor

from learner.errors import BaseRefused
from learner.fast.base_solution import BaseSolution, ridge_penalty
from learner.fast.fast_head import FastHead
from learner.fast.head import Entries
from learner.fast.incremental import IncrementalHead
from learner.fast.own_head import OwnHead
from learner.fast.row_log import MAX_ROWS, RowLog, Rows
from wire.records import HeadSolution
from wire.targets import names_of

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

        `fading_share` takes the place of that which the losses say (`learner.fast.fading`).
        """
        self.rows = fast_head.log.take(fast_head.served.config.head_features)
        if fast_head.own_head is not None:
            return self._solve_own(fast_head, fast_head.own_head, dict(offsets))
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
        blended_CR, self._fading_share = fast_head.fading.blended(
            weights_CR, fast_head.served.features, penalty, share=fading_share
        )
        return blended_CR

    def _solve_own(self, fast_head: FastHead, head: OwnHead, offsets: dict[str, int]) -> Tensor:
        """Returns what a head of the user makes of the sums, which are solved anew each time."""
        self._base = offsets
        self._arithmetic = f"{ARITHMETIC}, {head.name}"
        return fast_head.solve()

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
    rows_B = [[row_of[name] for name in names_of(label)] for label in rows.labels]
    order = sorted(range(len(rows_B)), key=lambda place: (rows_B[place], rows.phi_BR[place].numpy().tobytes()))
    return rows.phi_BR[order], fast_head.ridge.entries([rows.labels[place] for place in order])
