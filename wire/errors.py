"""The exceptions of Kafka and Redis access. Errors of the client libraries are mapped to these where they occur."""


class WireError(Exception):
    """The base of all errors of this room."""


class BusUnavailable(WireError):
    """No broker answered in time."""


class TopicMissing(BusUnavailable):
    """A topic does not exist. It may be made while the program waits."""


class SendFailed(WireError):
    """A record was refused, or not acknowledged in time.

    `is_permanent` says that the same record can never be sent: it cannot be encoded, is too large, or is invalid to the
    broker. Otherwise a later attempt may succeed.
    """

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        super().__init__(message)
        self.is_permanent = is_permanent


class BadMessage(WireError):
    """A message holds no record of ours. `reason` is one of the stable codes, `detail` describes the message."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class StoreUnavailable(WireError):
    """Redis did not answer in time."""


class StoreRefused(StoreUnavailable):
    """Redis refuses us: for our name or password, for lack of rights, for a certificate, or as a cluster.

    It is a kind of StoreUnavailable, because a program that runs goes on with its weights until that is mended.
    """


class StoreFull(StoreUnavailable):
    """Redis has no room for what would be written, even after garbage was collected."""


class FolderTaken(WireError):
    """A folder, or an address, has the state of another service; the message has the fix."""


class UnsafePolicy(WireError):
    """The eviction policy of the Redis server may remove weights."""


class NotFound(WireError):
    """There is no such blob, version or plan."""


class BlobCorrupt(WireError):
    """The bytes of a blob do not have its digest."""


class BadSignature(WireError):
    """A manifest or plan was changed since it was signed, or not signed at all."""


class UnknownKey(BadSignature):
    """A manifest or plan was signed with a key that we do not have, or do not accept any more."""


class CannotSign(WireError):
    """Our keys do not include what is to be signed with."""


class UnknownFormat(WireError):
    """A record has a format that this program does not read."""


class StaleEpoch(WireError):
    """Another process holds the lease now, so the caller must stop."""


class ParentMoved(WireError):
    """The current version is no longer the parent of the version to publish."""


class PlanMoved(WireError):
    """Another process changed the rollout plan (the compare and swap failed): read it again."""


class CommandsFull(WireError):
    """The log of what operators ask holds as many commands as are kept."""


class LabelsChanged(WireError):
    """A command about labels is not the next one: read the commands again."""


class CommandMoved(WireError):
    """The log was written again after the store had lost it, and another command has this number now."""


class BusRefused(WireError):
    """The broker refused a request: for lack of rights, by its configuration, or for a protocol version."""


class BusUnauthorized(BusRefused):
    """The broker knows us, and we may not do this."""


class BusUnauthenticated(BusRefused):
    """The broker does not accept our name, password or token."""


class BusUntrusted(BusRefused):
    """There is no connection by TLS that both sides trust."""


class TracesUnavailable(WireError):
    """Traces are wanted, and the package that sends them is not installed."""
