"""What can go wrong at the doors. Foreign exceptions become these once, where the client library is called."""

from collections.abc import Sequence


class WireError(Exception):
    """Anything that a door refuses or cannot do."""


class BusUnavailable(WireError):
    """No broker answered in time."""


class SendFailed(WireError):
    """A record was refused, or not acknowledged in time.

    Where it `is_permanent` the same record can never be sent: it has no encoding, is too large, or is refused for what
    it is. Otherwise a later attempt may succeed.
    """

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        super().__init__(message)
        self.is_permanent = is_permanent


class BadMessage(WireError):
    """A message that is no record of ours. `reason` is one of the stable codes, `detail` says what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class StoreUnavailable(WireError):
    """Redis did not answer in time."""


class StoreFull(StoreUnavailable):
    """Redis has no room for what would be written, even after what nobody needs was removed."""


class UnsafePolicy(WireError):
    """The Redis server may evict weights by itself."""


class NotFound(WireError):
    """No such blob, version or plan."""


class BlobCorrupt(WireError):
    """A blob is not what its digest says."""


class BadSignature(WireError):
    """A manifest was not signed with our key."""


class UnknownFormat(WireError):
    """A manifest of a format that this program does not read."""


class StaleEpoch(WireError):
    """Somebody else holds the lease now: stop."""


class ParentMoved(WireError):
    """The current version is no longer the one that this one was trained from."""


class PlanMoved(WireError):
    """The rollout plan was changed by somebody else; read it again."""


class ErasuresFull(WireError):
    """So many subjects were erased that no more are remembered."""


class BusRefused(WireError):
    """The broker answered, and the answer was no: rights, configuration, or a version that it does not speak."""


class LogTruncated(WireError):
    """A partition ends before the place where we want to go on: the broker lost records that we have seen.

    `partitions` are those whose offsets mean nothing any more.
    """

    def __init__(self, partition: str, *, position: int, end: int) -> None:
        super().__init__(
            f"{partition} ends at {end}, before our position {position}: the broker lost records. "
            f"Restore its log, or start over from what is left."
        )
        self.partitions = [partition]


class LogReplaced(LogTruncated):
    """A topic was made anew: other records come under the offsets of those that we have seen."""

    def __init__(self, topic: str, partitions: Sequence[str]) -> None:
        WireError.__init__(
            self, f"{topic} was made anew: its offsets mean other records. Start over from what is left."
        )
        self.partitions = list(partitions)
