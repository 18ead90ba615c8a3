"""When the slow tier works, and on what.

    labels since the last round --enough--> a round: half new labels, half memory
    no label for a while, and enough since the last rehearsal --> a rehearsal: the memory alone
    the same, rehearsed, and few samples beside the texts that wait for a label --> half these by guesses, half memory

Everything is counted in labels; the clock only says that there is silence. The marks (`round_at`, `rehearsed_at`,
`guessed_at`: labels learnt by then) are among the learner's counts, and so in its checkpoint. When a round is due may
depend on the clock; what it trains on depends only on which labels were learnt before it
(`learner.slow.round.draw_plan`).
"""

import math
from collections import Counter
from collections.abc import Sequence

from learner.config import LearnerConfig
from learner.labels.join import Join
from learner.memory.replay import Labelled, Replay
from learner.slow.round import draw_plan, labels_due, step_sizes
from learner.slow.strategies.in_rounds import in_rounds
from learner.state.snapshot import RoundPlan
from wire.records import RoundKind

ROUND_AT, REHEARSED_AT, GUESSED_AT = MARKS = "round_at", "rehearsed_at", "guessed_at"

GUESSING_ROUNDS = 2
"""Rounds on texts without a label in one silence: the second guesses with what the first has made."""

GUESSED_SHARE = 0.75
"""Of the samples of a step in these rounds."""


class Schedule:
    """Reads and moves the marks in `counts`, which is the learner's."""

    def __init__(self, config: LearnerConfig, counts: Counter[str]) -> None:
        self._config = config
        self._counts = counts
        self._num_draws = in_rounds(config.slow_strategy, loss_q=config.slow_loss_q).num_draws

    def due(self, num_memory: int, join: Join, *, is_urgent: bool, is_idle: bool) -> RoundKind | None:
        """The round that is due first, if any is. `is_urgent`: after a drift, fewer labels are enough."""
        if self._is_due(ROUND_AT, num_memory, is_urgent=is_urgent):
            return "labels"
        if is_idle and self._is_due(REHEARSED_AT, num_memory, is_urgent=is_urgent):
            return "rehearsal"
        if is_idle and self._is_guessing_due(num_memory, join, is_urgent=is_urgent):
            return "guesses"
        return None

    def labels_to_round(self, num_memory: int, *, is_urgent: bool) -> float:
        """The fewest labels after which a round on labels may be due, at least 1; infinite where none ever is."""
        if not self._config.trainable_layers:
            return math.inf
        due = self._num_due(ROUND_AT, num_memory, is_urgent=is_urgent)
        return max(math.ceil(due) - self._num_since(ROUND_AT), 1)

    def begin(self, kind: RoundKind, fresh: Sequence[Labelled], replay: Replay[Labelled], join: Join) -> RoundPlan:
        """The plan of a round that begins now; moves the marks."""
        config = self._config
        counts = self._counts
        sizes = step_sizes(config.slow_batch, self._num_draws)
        if kind == "labels":
            steps = max(self._num_since(ROUND_AT) // config.slow_labels_per_step, 1)
        elif kind == "rehearsal":
            num_steps = config.rehearsal_passes * len(replay) // config.slow_batch
            fresh = ()
            steps = max(num_steps, config.rehearsal_steps)
            counts["rehearsals"] += 1
            counts[REHEARSED_AT] = counts["learnt"]
        else:
            fresh = [Labelled(text, "") for text in join.unlabelled(config.guessed_texts)]
            sizes = step_sizes(config.slow_batch, self._num_draws, share_fresh=GUESSED_SHARE)
            steps = max(config.rehearsal_passes * len(fresh) // sizes[0], 1)
            counts["guessing_rounds"] += 1
            if counts["guessing_rounds"] % GUESSING_ROUNDS == 0:
                counts[GUESSED_AT] = counts["learnt"]
        counts["rounds"] += 1
        counts[ROUND_AT] = counts["learnt"]
        return draw_plan(counts["rounds"], fresh, replay, steps=steps, sizes=sizes, seed=config.seed)

    def is_rested(self, num_memory: int, join: Join, *, is_urgent: bool) -> bool:
        """Whether nothing would be due even if no label came for long."""
        may_idle = self._config.rehearse_after_s > 0
        return self.due(num_memory, join, is_urgent=is_urgent, is_idle=may_idle) is None

    def _num_since(self, mark: str) -> int:
        return self._counts["learnt"] - self._counts[mark]

    def _is_guessing_due(self, num_memory: int, join: Join, *, is_urgent: bool) -> bool:
        """Not under a strategy that draws nothing from the memory: then no sample of the round would have a label."""
        config = self._config
        num_texts = min(join.num_pending, config.guessed_texts)
        is_worth_it = config.learn_unlabelled and self._num_draws > 0 and num_texts > num_memory
        return is_worth_it and self._is_due(GUESSED_AT, num_memory, is_urgent=is_urgent)

    def _is_due(self, mark: str, num_memory: int, *, is_urgent: bool) -> bool:
        is_possible = self._config.trainable_layers > 0 and num_memory > 0
        return is_possible and self._num_since(mark) >= self._num_due(mark, num_memory, is_urgent=is_urgent)

    def _num_due(self, mark: str, num_memory: int, *, is_urgent: bool) -> float:
        """Silence costs nobody anything, so what it is for need not wait for a share of the memory."""
        every = self._config.slow_every_labels
        due = labels_due(num_memory, every=every) if mark == ROUND_AT else every
        return min(due, self._config.drift_min_labels) if is_urgent else due
