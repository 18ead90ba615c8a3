"""When a slow round is due, and what it trains on.

    labels since the last round --enough--> a round: half new labels, half memory
    no label for a while, and enough since the last rehearsal --> a rehearsal: the memory alone
    the same, rehearsed, and far more texts that wait for a label than samples --> pseudo-labels of these, and memory

A round that is due is drawn at once (`learner.rounds.plan`), and trains the blocks of the tier that drift has
unfrozen by then (`learner.drift`).

While many labels are not read yet no round begins, and none goes on. It would train on those that have come so far,
encode them again, and take the time that the others need; behind a backlog one round trains on all of it.

Each round loses a little of what the memory does not hold (`learner.rounds.next_head`), so the next one waits until
that has doubled. With each new encoder the evidence for the versions begins anew, so the next one waits, for a while,
until this one is that of the stable version. Everything is counted in labels; the clock only says that no label comes.
A mark (`round_at`, `rehearsed_at`, `pseudo_labelled_at`) is the number of labels learnt at the last round of a kind.
The marks are a part of the learner's progress, and so of its checkpoint. When a round is due may depend on the clock;
what it trains on depends only on which labels were learnt before it. All batches of a round are drawn when it begins,
so that a restart can repeat the round.
"""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
import structlog

from learner.config import LearnerConfig
from learner.drift import tier_of
from learner.errors import DataError
from learner.intake.join import Join
from learner.memory import Replay
from learner.progress import LearnerProgress
from learner.rounds.plan import RoundPlan, draw_plan, step_sizes
from learner.rounds.strategies import draws_per_step
from learner.samples import Labelled
from wire.inputs import is_encoded
from wire.records import PSEUDO_LABELS, RoundKind

GROWTH = 0.1
"""A round ends with encoding the replay memory anew, so the next one waits for this share of it in new labels."""

UNSETTLED = 8
"""While the encoder in use is not that of the stable version, a round waits for so many times the labels."""

PSEUDO_LABEL_ROUNDS = 2
"""Rounds on texts without a label while the learner is idle: the second takes its pseudo-labels from the encoder that
the first has made."""

TEXTS_PER_SAMPLE = 2
"""Texts without a label that there must be for each sample in memory: with about as many, two such rounds take longer
than the rehearsal, and what can be learnt of these texts is known from the labelled ones."""

PSEUDO_LABEL_SHARE = 0.75
"""Share of the samples of a step in these rounds that have a pseudo-label."""


BEHIND_S = 0.2
"""A learner is behind while the labels that are not read yet will take longer than this. It is not at 200 labels a
second, of which it reads all at every poll."""

log = structlog.get_logger("learner")


class Schedule:
    """Decides when a round begins. Reads and moves the marks of `progress`; it and `counts` are the learner's.

    `error` is what stopped it: from then on no round is due. `is_settled` says whether the encoder in use is that of
    the stable version, as far as is known. `behind_s` is how long the labels that are not read yet will take.
    """

    def __init__(self, config: LearnerConfig, progress: LearnerProgress, counts: Counter[str]) -> None:
        self._config = config
        self._progress = progress
        self._counts = counts
        self._num_draws = draws_per_step(config.slow_strategy)
        self.error: DataError | None = None
        self.is_settled = True
        self.behind_s = 0.0

    def stop(self, error: DataError) -> None:
        """Sets the slow strategy aside, which has failed. What was trained so far stays; the fast head learns on."""
        self.error = error
        self._counts["strategies_failed"] += 1
        log.error("slow_strategy_set_aside", reason=str(error))

    def due(self, num_memory: int, join: Join, *, is_urgent: bool, is_idle: bool) -> RoundKind | None:
        """Returns the round that is due first, if any is. `is_urgent`: after a drift, fewer labels are enough."""
        if self.is_behind:
            return None
        if self._is_due("labels", num_memory, is_urgent=is_urgent):
            return "labels"
        if is_idle and self._is_due("rehearsal", num_memory, is_urgent=is_urgent):
            return "rehearsal"
        if is_idle and self._is_pseudo_labelling_due(num_memory, join, is_urgent=is_urgent):
            return PSEUDO_LABELS
        return None

    def labels_to_round(self, num_memory: int, *, is_urgent: bool) -> float:
        """Returns the fewest labels after which a round on labels may be due, at least 1; inf where none ever is."""
        due = self._num_due("labels", num_memory, is_urgent=is_urgent)
        num_left = math.ceil(due) - self._num_since("labels")
        is_possible = self._may_train and not self.is_behind and (num_memory > 0 or num_left > 0)
        return max(num_left, 1) if is_possible else math.inf

    def begin(
        self, kind: RoundKind, fresh: Sequence[Labelled], replay: Replay[Labelled], join: Join, *, layers: int
    ) -> RoundPlan:
        """Moves the marks; returns the plan of a round that begins now, and trains the top `layers` blocks."""
        config = self._config
        progress = self._progress
        sizes = step_sizes(config.slow_batch, self._num_draws)
        if kind == "labels":
            steps = max(self._num_since("labels") // config.slow_labels_per_step, 1)
        elif kind == "rehearsal":
            num_steps = config.rehearsal_passes * len(replay) // config.slow_batch
            fresh = ()
            steps = max(num_steps, config.rehearsal_steps)
            self._counts["rehearsals"] += 1
            progress.rehearsed_at = progress.num_labels
        else:
            contents = join.unlabelled(config.pseudo_label_texts)
            fresh = [Labelled(each, "") for each in contents if is_encoded(each)]
            sizes = step_sizes(config.slow_batch, self._num_draws, share_fresh=PSEUDO_LABEL_SHARE)
            steps = max(config.rehearsal_passes * len(fresh) // sizes[0], 1)
            self._counts["pseudo_label_rounds"] += 1
            progress.num_pseudo_rounds += 1
            if progress.num_pseudo_rounds % PSEUDO_LABEL_ROUNDS == 0:
                progress.pseudo_labelled_at = progress.num_labels
        self._counts["rounds"] += 1
        progress.num_rounds += 1
        progress.round_at = progress.num_labels
        plan = draw_plan(progress.num_rounds, fresh, replay, steps=steps, sizes=sizes, seed=config.seed)
        tier = tier_of(layers, config.tiers)
        self._counts[f"rounds_{tier}"] += 1
        log.info("round_begun", round=plan.number, kind=kind, tier=tier, layers=layers)
        return plan if layers == config.deepest_layers else msgspec.structs.replace(plan, layers=layers)

    def is_rested(self, num_memory: int, join: Join, *, is_urgent: bool) -> bool:
        """Whether nothing would be due even if no label came for long."""
        may_idle = self._config.rehearse_after_s > 0
        return not self.is_behind and self.due(num_memory, join, is_urgent=is_urgent, is_idle=may_idle) is None

    @property
    def is_behind(self) -> bool:
        """Whether many labels are not read yet."""
        return self.behind_s > BEHIND_S

    @property
    def _may_train(self) -> bool:
        return self._config.trainable_layers > 0 and self.error is None

    def _num_since(self, kind: RoundKind) -> int:
        progress = self._progress
        marks: dict[RoundKind, int] = {
            "labels": progress.round_at,
            "rehearsal": progress.rehearsed_at,
            PSEUDO_LABELS: progress.pseudo_labelled_at,
        }
        return progress.num_labels - marks[kind]

    def _is_pseudo_labelling_due(self, num_memory: int, join: Join, *, is_urgent: bool) -> bool:
        """Whether a round on pseudo-labels is due.

        It never is under a strategy that draws nothing from the memory: no sample of the round would have a label.
        """
        config = self._config
        num_texts = min(join.num_pending, config.pseudo_label_texts)
        is_worth_it = config.learn_unlabelled and self._num_draws > 0 and num_texts >= TEXTS_PER_SAMPLE * num_memory
        return is_worth_it and self._is_due(PSEUDO_LABELS, num_memory, is_urgent=is_urgent)

    def _is_due(self, kind: RoundKind, num_memory: int, *, is_urgent: bool) -> bool:
        is_possible = self._may_train and num_memory > 0
        return is_possible and self._num_since(kind) >= self._num_due(kind, num_memory, is_urgent=is_urgent)

    def _num_due(self, kind: RoundKind, num_memory: int, *, is_urgent: bool) -> float:
        """Returns the labels since the last round of a kind that make another due.

        Work of an idle learner takes time from nobody, so it does not wait for a share of the memory as a round does.
        """
        every = self._config.slow_every_labels
        num_beyond = max(self._progress.round_at - num_memory, 0)
        due = labels_due(num_memory, num_beyond, every=every) if kind == "labels" else every
        if kind == "labels" and not self.is_settled:
            return UNSETTLED * due
        return min(due, self._config.drift_min_labels) if is_urgent else due


def labels_due(num_memory: int, num_beyond: int, *, every: int) -> float:
    """Returns the labels since the last round that are enough for another; `num_beyond` before it are not in memory.

    >>> labels_due(1_000, 0, every=500), labels_due(10_000, 0, every=500), labels_due(1_000, 4_000, every=500)
    (500, 1000.0, 4000)
    """
    return max(every, GROWTH * num_memory, num_beyond)
