"""When the slow tier works, and on what.

    labels since the last round --enough--> a round: half new labels, half memory
    no label for a while, and enough since the last rehearsal --> a rehearsal: the memory alone
    the same, rehearsed, and few samples beside the texts that wait for a label --> half these by guesses, half memory

Everything is counted in labels; the clock only says that there is silence. The marks (`round_at`, `rehearsed_at`,
`guessed_at`: labels learnt by then) are among the learner's counts, and so in its checkpoint.
"""

from collections import Counter
from collections.abc import Sequence

from learner.checkpoint import RoundPlan
from learner.config import LearnerConfig
from learner.join import Join
from learner.replay import Labelled, Replay
from learner.slow import draw_plan, labels_due, step_sizes
from learner.strategies.in_rounds import in_rounds

ROUND_AT, REHEARSED_AT, GUESSED_AT = MARKS = "round_at", "rehearsed_at", "guessed_at"

GUESSING_ROUNDS = 2
"""Rounds on texts without a label in one silence: the second guesses with what the first has made."""

GUESSED_SHARE = 0.75
"""Of the samples of a step in these rounds."""


class Schedule:
    """Reads and moves the marks in `counts`, which is the learner's."""

    def __init__(self, config: LearnerConfig, counts: Counter[str]) -> None:
        self._config, self._counts = config, counts
        self._num_draws = in_rounds(config.slow_strategy, loss_q=config.slow_loss_q).num_draws

    def plan(
        self, fresh: Sequence[Labelled], replay: Replay[Labelled], join: Join, *, is_urgent: bool, is_idle: bool
    ) -> RoundPlan | None:
        """The round that is due now, if any. `is_urgent`: after a drift, fewer labels are enough."""
        config, counts = self._config, self._counts
        mark = self._due(len(replay), join, is_urgent=is_urgent, is_idle=is_idle)
        if mark is None:
            return None
        sizes = step_sizes(config.slow_batch, self._num_draws)
        if mark == ROUND_AT:
            steps = max(self._num_since(ROUND_AT) // config.slow_labels_per_step, 1)
        elif mark == REHEARSED_AT:
            num_steps = config.rehearsal_passes * len(replay) // config.slow_batch
            fresh, steps = (), max(num_steps, config.rehearsal_steps)
            counts["rehearsals"] += 1
            counts[REHEARSED_AT] = counts["learnt"]
        else:
            fresh = [Labelled(text, "") for text in join.unlabelled()]
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
        return self._due(num_memory, join, is_urgent=is_urgent, is_idle=may_idle) is None

    def _due(self, num_memory: int, join: Join, *, is_urgent: bool, is_idle: bool) -> str | None:
        """The mark of the round that is due first, if any is."""
        if self._is_due(ROUND_AT, num_memory, is_urgent=is_urgent):
            return ROUND_AT
        if is_idle and self._is_due(REHEARSED_AT, num_memory, is_urgent=is_urgent):
            return REHEARSED_AT
        if is_idle and self._is_guessing_due(num_memory, join, is_urgent=is_urgent):
            return GUESSED_AT
        return None

    def _num_since(self, mark: str) -> int:
        return self._counts["learnt"] - self._counts[mark]

    def _is_guessing_due(self, num_memory: int, join: Join, *, is_urgent: bool) -> bool:
        """Not under a strategy that draws nothing from the memory: then no sample of the round would have a label."""
        is_worth_it = self._config.learn_unlabelled and self._num_draws > 0 and join.num_pending > num_memory
        return is_worth_it and self._is_due(GUESSED_AT, num_memory, is_urgent=is_urgent)

    def _is_due(self, mark: str, num_memory: int, *, is_urgent: bool) -> bool:
        """Silence costs nobody anything, so what it is for need not wait for a share of the memory."""
        every = self._config.slow_every_labels
        due = labels_due(num_memory, every=every) if mark == ROUND_AT else every
        if is_urgent:
            due = min(due, self._config.drift_min_labels)
        return self._config.trainable_layers > 0 and num_memory > 0 and self._num_since(mark) >= due
