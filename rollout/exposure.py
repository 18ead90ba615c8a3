"""How much traffic the arms got at the present shares, whether the keys are split as planned, and who gets labels."""

from collections import Counter
from typing import Final

from rollout.judged_events import JudgedLabel
from rollout.paired_evidence import Traffic
from wire.recent import RecentHashes
from wire.records import CANDIDATE, NEWEST, STABLE, STAND_IN, Answer, LabelRate, RolloutPlan

MAX_KEYS: Final = 20_000
"""Keys that are remembered as counted."""

FOLLOWED_MS: Final = 5_000
"""Time after which all replicas follow a plan: receipts name no revision."""


class Exposure:
    """Counts from one plan on. Verbs: add, add_label, traffic, labelled, label_rates.

    `num_answers` counts the candidate's answers. A key is counted once, for the arm that got it; the newest arm, whose
    versions come and go, is left out, and a stand-in is in the place of the stable version.
    """

    def __init__(self, since: RolloutPlan | None = None, num_answers: int = 0) -> None:
        self.since_revision = since.revision if since else 0
        self.num_answers = num_answers
        self._labelled_from_ms = since.time_ms + FOLLOWED_MS if since else 0
        self._answers: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()
        self._seen = RecentHashes(MAX_KEYS)
        self._labels: Counter[str] = Counter()
        self._labelled_keys: Counter[str] = Counter()
        self._labelled = RecentHashes(MAX_KEYS)

    def add(self, answer: Answer) -> None:
        if answer.rollout_revision < self.since_revision:
            return
        arm = STABLE if answer.arm == STAND_IN else answer.arm
        self.num_answers += arm == CANDIDATE
        if answer.time_ms >= self._labelled_from_ms:
            self._answers[arm] += 1
        self._count_key(arm, answer.entity.encode(), self._keys, self._seen)

    def add_label(self, label: JudgedLabel) -> None:
        """Counts the label for the arm that was shown."""
        if label.answer_ms >= self._labelled_from_ms:
            arm = label.verdicts.arm
            self._labels[arm] += 1
            self._count_key(arm, label.entity.to_bytes(8, signed=True), self._labelled_keys, self._labelled)

    def _count_key(self, arm: str, key: bytes, keys: Counter[str], seen: RecentHashes) -> None:
        if arm in (STABLE, CANDIDATE) and key not in seen:
            seen.add(key)
            keys[arm] += 1

    def traffic(self, *, stable_share: float, candidate_share: float) -> Traffic:
        """Returns the keys of stable version and candidate, and their shares of both."""
        return _traffic(self._keys, stable_share, candidate_share)

    def labelled(self, *, stable_share: float, candidate_share: float) -> Traffic:
        """Returns the same of the keys with a label.

        Whether a key has one must not depend on the arm that answered it: who corrects only what is shown and wrong
        makes the arm look better that is shown less.
        """
        return _traffic(self._labelled_keys, stable_share, candidate_share)

    def label_rates(self) -> tuple[LabelRate, ...]:
        """Returns for each arm that answered how many answers it gave, and how many labels came for such answers."""
        arms = [arm for arm in (STABLE, CANDIDATE, NEWEST) if self._answers[arm]]
        return tuple(LabelRate(arm=arm, answers=self._answers[arm], labels=self._labels[arm]) for arm in arms)


def _traffic(keys: Counter[str], stable_share: float, candidate_share: float) -> Traffic:
    share = candidate_share / (candidate_share + stable_share)
    return Traffic(keys=(keys[STABLE], keys[CANDIDATE]), shares=(1.0 - share, share))
