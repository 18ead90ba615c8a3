"""Schedules slow rounds: decides which kind of round is due, and draws its plan.

    kind           is due                                                       batches
    labels         after enough labels since the last round                     half new labels, half replay buffer
    rehearsal      after a while without labels, and enough labels since the    replay buffer
                   last rehearsal
    pseudo-labels  like a rehearsal, if there are far more unlabelled texts     pseudo-labelled texts, replay buffer
                   than samples

The plan of a due round is drawn at once (`learner.rounds.plan`). The round trains the blocks of the tier that drift has
unfrozen (`learner.drift`).

While many labels are unread, no round begins, and a running round pauses. Otherwise the round would train only on the
labels so far, encode them again, and take processor time from reading the others. When all are read, one round trains
on all of them.

Samples that the replay buffer has dropped cannot be learnt again under a new encoder, and each round loses a little of
them (`learner.rounds.next_head`). So the next round waits for at least as many new labels as samples were dropped. With
each new encoder, the rollout must judge versions from scratch. So the next round also waits until the stable version
uses this encoder, but only for a limited number of labels.

Everything is counted in labels. The clock only detects that no label comes. The marks `round_at`, `rehearsed_at` and
`pseudo_labelled_at` are the numbers of labels that were learnt at the last round of each kind. They are part of the
learner's progress, and so of its checkpoint. The clock may influence when a round is due, but not its batches: these
depend only on the labels that were learnt before. All batches are drawn when the round begins, so a restart can repeat
the round.
"""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
import structlog

from learner.config import LearnerConfig
from learner.drift import tier_name
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
"""A round encodes the whole replay buffer again. So it needs at least this many new labels for each sample in the
buffer."""

UNSETTLED = 8
"""While the stable version has another encoder than the learner, a round needs this many times as many labels."""

PSEUDO_LABEL_ROUNDS = 2
"""The number of consecutive rounds on pseudo-labels. The second round makes its pseudo-labels with the encoder of the
first."""

TEXTS_PER_SAMPLE = 2
"""A round on pseudo-labels needs at least this many unlabelled texts for each sample in the replay buffer. With about
as many texts as samples, two such rounds take longer than a rehearsal, and teach nothing new."""

PSEUDO_LABEL_SHARE = 0.75
"""The share of pseudo-labelled samples in a step of these rounds."""

BEHIND_S = 0.2
"""The learner is behind if it needs more than this many seconds for the unread labels. At 200 labels a second it is not
behind, since each poll reads all labels."""

log = structlog.get_logger("learner")


class Schedule:
    """Decides when a slow round begins, and draws its plan. It moves the marks in the learner's `progress`.

    - `error`: the error with which the training strategy failed. Once it is set, no round is due.
    - `is_settled`: whether the stable version has the learner's current encoder, as far as the learner knows.
    - `behind_s`: the time in which the unread labels will be learnt, in seconds.
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
        """Stops all slow rounds, because the strategy has failed. The encoder stays; the fast head goes on learning."""
        self.error = error
        self._counts["strategies_failed"] += 1
        log.error("slow_strategy_set_aside", reason=str(error))

    def due(self, num_memory: int, join: Join, *, is_urgent: bool, is_idle: bool) -> RoundKind | None:
        """Returns the kind of round that is due, or None.

        - `num_memory`: the number of samples in the replay buffer on which rounds may train.
        - `is_urgent`: drift was detected, so fewer labels are enough.
        - `is_idle`: no label came for a while.
        """
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
        """Returns the number of labels after which a round on labels may be due, at least 1; inf if none can be due."""
        due = self._num_due("labels", num_memory, is_urgent=is_urgent)
        num_left = math.ceil(due) - self._num_since("labels")
        is_possible = self._may_train and not self.is_behind and (num_memory > 0 or num_left > 0)
        return max(num_left, 1) if is_possible else math.inf

    def begin(
        self, kind: RoundKind, fresh: Sequence[Labelled], replay: Replay[Labelled], join: Join, *, layers: int
    ) -> RoundPlan:
        """Begins a round: draws its plan, and moves the marks. The round trains the top `layers` blocks."""
        config = self._config
        progress = self._progress
        sizes = step_sizes(config.slow_batch, self._num_draws)
        if kind == "labels":
            steps = max(self._num_since("labels") // config.slow_labels_per_step, 1)
        elif kind == "rehearsal":
            num_steps = config.rehearsal_passes * len(replay) // config.slow_batch
            # Without fresh samples, all samples of the steps come from the replay buffer.
            fresh = ()
            steps = max(num_steps, config.rehearsal_steps)
            self._counts["rehearsals"] += 1
            progress.rehearsed_at = progress.num_labels
        else:
            contents = join.unlabelled(config.pseudo_label_texts)
            fresh = [Labelled(content, "") for content in contents if is_encoded(content)]
            sizes = step_sizes(config.slow_batch, self._num_draws, share_fresh=PSEUDO_LABEL_SHARE)
            steps = max(config.rehearsal_passes * len(fresh) // sizes[0], 1)
            self._counts["pseudo_label_rounds"] += 1
            progress.num_pseudo_rounds += 1
            # The mark moves after the last of the consecutive rounds.
            if progress.num_pseudo_rounds % PSEUDO_LABEL_ROUNDS == 0:
                progress.pseudo_labelled_at = progress.num_labels
        self._counts["rounds"] += 1
        progress.num_rounds += 1
        progress.round_at = progress.num_labels
        plan = draw_plan(progress.num_rounds, fresh, replay, steps=steps, sizes=sizes, seed=config.seed)
        tier = tier_name(layers, config.tiers)
        self._counts[f"rounds_{tier}"] += 1
        log.info("round_begun", round=plan.number, kind=kind, tier=tier, layers=layers)
        # Plans of releases without tiers have 0 layers, which also means the deepest layers.
        return plan if layers == config.deepest_layers else msgspec.structs.replace(plan, layers=layers)

    def is_rested(self, num_memory: int, join: Join, *, is_urgent: bool) -> bool:
        """Returns whether no round is due, and none would become due by waiting without labels."""
        may_idle = self._config.rehearse_after_s > 0
        return not self.is_behind and self.due(num_memory, join, is_urgent=is_urgent, is_idle=may_idle) is None

    @property
    def is_behind(self) -> bool:
        """Whether so many labels are unread that no slow work should be done."""
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
        """Returns whether a round on pseudo-labels is due.

        It is never due if the strategy does not draw from the replay buffer, since no sample would have a true label.
        """
        config = self._config
        num_texts = min(join.num_pending, config.pseudo_label_texts)
        is_worth_it = config.learn_unlabelled and self._num_draws > 0 and num_texts >= TEXTS_PER_SAMPLE * num_memory
        return is_worth_it and self._is_due(PSEUDO_LABELS, num_memory, is_urgent=is_urgent)

    def _is_due(self, kind: RoundKind, num_memory: int, *, is_urgent: bool) -> bool:
        is_possible = self._may_train and num_memory > 0
        return is_possible and self._num_since(kind) >= self._num_due(kind, num_memory, is_urgent=is_urgent)

    def _num_due(self, kind: RoundKind, num_memory: int, *, is_urgent: bool) -> float:
        """Returns the number of labels since the last round of a kind after which the next one is due.

        Only a round on labels depends on the size of the replay buffer. The other kinds run while the learner is idle.
        """
        every = self._config.slow_every_labels
        num_beyond = max(self._progress.round_at - num_memory, 0)
        due = labels_due(num_memory, num_beyond, every=every) if kind == "labels" else every
        if kind == "labels" and not self.is_settled:
            return UNSETTLED * due
        return min(due, self._config.drift_min_labels) if is_urgent else due


def labels_due(num_memory: int, num_beyond: int, *, every: int) -> float:
    """Returns the number of labels since the last round after which the next round on labels is due.

    `num_memory` is the number of samples in the replay buffer. `num_beyond` is the number of labels from before the
    last round that are not in it.

    >>> labels_due(1_000, 0, every=500), labels_due(10_000, 0, every=500), labels_due(1_000, 4_000, every=500)
    (500, 1000.0, 4000)
    """
    return max(every, GROWTH * num_memory, num_beyond)
