"""The subjects that were erased. A rollback of the learner undoes no erasure."""

from collections.abc import Callable, Iterable, Iterator

from wire.records import Answer, Feedback


class ErasedSubjects:
    """The digests of the erased subjects. `is_due`: the learner may still hold samples of one of them.

    `digest` makes the digest of a subject; without it no subject counts as erased.
    """

    def __init__(
        self, digest: Callable[[str], str] | None, digests: Iterable[str] = (), *, is_due: bool = False
    ) -> None:
        self._digest = digest
        self._digests = {*digests}
        self.is_due = is_due
        self.num = len(self._digests)
        """The number of erased subjects. It is 0 in most services, which skip all further checks."""

    def restored(self, digests: Iterable[str], *, is_due: bool) -> "ErasedSubjects":
        """Returns a copy with these digests."""
        return ErasedSubjects(self._digest, digests, is_due=is_due)

    def holds(self, subject: str) -> bool:
        """Whether `subject` was erased."""
        if not self._digests or not subject or self._digest is None:
            return False
        return self._digest(subject) in self._digests

    def without_erased(
        self, records: Iterable[Answer | Feedback], skip: Callable[[Answer], None]
    ) -> Iterator[Answer | Feedback]:
        """Yields `records` without the contents of erased subjects; their answers are passed to `skip` instead."""
        for record in records:
            if not self.holds(record.key):
                yield record
            elif isinstance(record, Answer):
                skip(record)
            else:
                yield record.bare

    def add(self, digest: str) -> None:
        """Adds an erased subject."""
        self.is_due = self.is_due or digest not in self._digests
        self._digests.add(digest)
        self.num = len(self._digests)

    def __contains__(self, digest: str) -> bool:
        return digest in self._digests

    def __len__(self) -> int:
        return self.num
