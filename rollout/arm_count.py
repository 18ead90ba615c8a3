"""The answers of newer versions with another encoder than the stable one, and its own: how many labels were right."""

from collections.abc import Callable
from functools import partial

from rollout.unpaired_rule import ArmEvidence, ArmTally


class ArmCount:
    """Counts for one stable version. Verbs: add_newer, add_stable; each returns what takes the label out again.

    Labels of the stable arm count from the time on of the first label of the others, `since_ms` (0: none came yet).
    """

    def __init__(self, evidence: ArmEvidence | None = None, since_ms: int = 0) -> None:
        self.evidence = evidence or ArmEvidence()
        self.since_ms = since_ms

    def add_newer(self, is_right: bool, answer_ms: int) -> Callable[[], None]:
        """Counts a label of an answer of a newer version."""
        self.since_ms = self.since_ms or answer_ms
        self.evidence = ArmEvidence(self.evidence.stable, self.evidence.candidate.with_one(is_right))
        return partial(self._remove, newer=ArmTally(1, int(is_right)))

    def add_stable(self, is_right: bool, answer_ms: int) -> Callable[[], None]:
        """Counts a label of an answer of the stable version."""
        if not 0 < self.since_ms <= answer_ms:
            return lambda: None
        self.evidence = ArmEvidence(self.evidence.stable.with_one(is_right), self.evidence.candidate)
        return partial(self._remove, stable=ArmTally(1, int(is_right)))

    def _remove(self, *, stable: ArmTally | None = None, newer: ArmTally | None = None) -> None:
        before = self.evidence
        self.evidence = ArmEvidence(before.stable - (stable or ArmTally()), before.candidate - (newer or ArmTally()))
