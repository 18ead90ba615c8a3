"""Knows which subjects were erased. A rollback of the learner undoes no erasure."""

from collections.abc import Callable, Iterable, Iterator

from wire.records import Answer, Feedback


class ErasedSubjects:
    """Holds the digests of the erased subjects. `is_due`: the learner may still hold samples of one of them.

    `digest` makes the digest of a subject; without it nothing is known of anybody.
    """

    def __init__(
        self, digest: Callable[[str], str] | None, digests: Iterable[str] = (), *, is_due: bool = False
    ) -> None:
        self._digest = digest
        self._digests = {*digests}
        self.is_due = is_due
        self.num = len(self._digests)
        """How many subjects are erased: none in most services, which look at this alone."""

    def restored(self, digests: Iterable[str], *, is_due: bool) -> "ErasedSubjects":
        """Returns the same with these digests."""
        return ErasedSubjects(self._digest, digests, is_due=is_due)

    def holds(self, subject: str) -> bool:
        """Whether nothing about `subject` may be known."""
        if not self._digests or not subject or self._digest is None:
            return False
        return self._digest(subject) in self._digests

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

    def add(self, digest: str) -> None:
        """Adds a subject: from now on nothing about it may be known."""
        self.is_due = self.is_due or digest not in self._digests
        self._digests.add(digest)
        self.num = len(self._digests)

    def __contains__(self, digest: str) -> bool:
        return digest in self._digests

    def __len__(self) -> int:
        return self.num
