"""The subjects (persons) whose data an operator had erased. A rollback of the learner does not undo an erasure."""

from collections.abc import Callable, Iterable, Iterator

from wire.records import Answer, Feedback


class ErasedSubjects:
    """The set of erased subjects, by their digests.

    - `digest`: makes the digest of a subject. Without it no subject counts as erased.
    - `is_due`: the learner may still have samples about one of the subjects.
    """

    def __init__(
        self, digest: Callable[[str], str] | None, digests: Iterable[str] = (), *, is_due: bool = False
    ) -> None:
        self._digest = digest
        self._digests = {*digests}
        self.is_due = is_due
        self.num = len(self._digests)
        """The number of erased subjects. Most services have none, and then no record needs to be checked."""

    def restored(self, digests: Iterable[str], *, is_due: bool) -> "ErasedSubjects":
        """Returns a set with the same digest function and these digests, from a checkpoint."""
        return ErasedSubjects(self._digest, digests, is_due=is_due)

    def holds(self, subject: str) -> bool:
        """Returns whether `subject` was erased."""
        if not self._digests or not subject or self._digest is None:
            return False
        return self._digest(subject) in self._digests

    def without_erased(
        self, records: Iterable[Answer | Feedback], skip: Callable[[Answer], None]
    ) -> Iterator[Answer | Feedback]:
        """Yields `records` without the texts of erased subjects.

        An answer about an erased subject is passed to `skip` instead. A label about one loses the text of its event.
        """
        for record in records:
            if not self.holds(record.key):
                yield record
            elif isinstance(record, Answer):
                skip(record)
            else:
                yield record.bare

    def add(self, digest: str) -> None:
        """Adds an erased subject by its digest. Sets `is_due` if it is new."""
        self.is_due = self.is_due or digest not in self._digests
        self._digests.add(digest)
        self.num = len(self._digests)

    def __contains__(self, digest: str) -> bool:
        return digest in self._digests

    def __len__(self) -> int:
        return self.num
