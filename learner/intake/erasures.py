"""Knows which subjects were erased, and how far each erasure has come. A rollback of the learner undoes no erasure."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from wire.records import Answer, Erasure, Feedback


class ErasedState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds everything that an `ErasedSubjects` knows."""

    erasures: list[Erasure] = []
    is_due: bool = False


class ErasedSubjects:
    """Holds the erasures, by number. `is_due`: the learner may still hold samples of an erased subject.

    `digest` makes the digest of a subject; without it nothing is known of anybody.
    """

    def __init__(self, digest: Callable[[str], str] | None, state: ErasedState | None = None) -> None:
        self._digest = digest
        self._erasures = {erasure.digest: erasure for erasure in state.erasures} if state else {}
        self.is_due = state.is_due if state else False
        self.num = len(self._erasures)
        """How many subjects are erased: none in most services, which look at this alone."""
        self.clean_since = 0
        """The version before which every version holds something that was erased; 0 before an erasure is published."""
        self._note_versions()

    def restored(self, state: ErasedState) -> "ErasedSubjects":
        """Returns the erasures that go on from `state`."""
        return ErasedSubjects(self._digest, state)

    def holds(self, subject: str) -> bool:
        """Whether nothing about `subject` may be known."""
        if not self._erasures or not subject or self._digest is None:
            return False
        return self._digest(subject) in self._erasures

    def without_erased(
        self, records: Iterable[Answer | Feedback], skip: Callable[[Answer], None]
    ) -> Iterator[Answer | Feedback]:
        """Yields `records` without what erased subjects said: their answers are passed to `skip`."""
        for record in records:
            if not self.holds(record.key):
                yield record
            elif isinstance(record, Answer):
                skip(record)
            else:
                yield record.bare

    def add(self, digest: str, *, time_ms: int) -> None:
        """Adds an erasure: from now on nothing about this subject may be known."""
        self.num += digest not in self._erasures
        self._erasures[digest] = Erasure(digest=digest, number=self.num, time_ms=time_ms)
        self.is_due = True

    def replace(self, erasure: Erasure) -> None:
        """Replaces what is known of an erasure."""
        self._erasures[erasure.digest] = erasure
        self._note_versions()

    def mark_published(self, version: int, erased: int) -> None:
        """Notes that `version` is free of the first `erased` erasures, as its manifest says."""
        for erasure in self:
            if not erasure.version and erasure.number <= erased:
                self._erasures[erasure.digest] = msgspec.structs.replace(erasure, version=version)
        self._note_versions()

    def mark_rolled_back(self, num_known: int) -> None:
        """Makes erasures due again, as the learner is back at a state that knows only the first `num_known` of them."""
        for erasure in self:
            if erasure.number > num_known:
                self._erasures[erasure.digest] = msgspec.structs.replace(erasure, version=0, is_purged=False)
                self.is_due = True
        self._note_versions()

    def export(self) -> ErasedState:
        return ErasedState(erasures=list(self), is_due=self.is_due)

    def __contains__(self, digest: str) -> bool:
        return digest in self._erasures

    def __iter__(self) -> Iterator[Erasure]:
        return iter(tuple(self._erasures.values()))

    def __len__(self) -> int:
        return self.num

    def _note_versions(self) -> None:
        self.clean_since = max((erasure.version for erasure in self), default=0)
