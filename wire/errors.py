"""The exceptions of Kafka and Redis access. `wire/bus` and `wire/store` map the client libraries' errors to these."""


class WireError(Exception):
    """The base class of all errors of `wire`."""


class BusUnavailable(WireError):
    """No broker answered in time."""


class TopicMissing(BusUnavailable):
    """A topic does not exist. Somebody may create it while the program waits."""


class SendFailed(WireError):
    """A record was refused, or not acknowledged in time.

    If `is_permanent`, the record can never be sent: it cannot be encoded, it is too large, or the broker finds it
    invalid. Otherwise a later attempt may succeed.
    """

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        super().__init__(message)
        self.is_permanent = is_permanent


class BadMessage(WireError):
    """A message cannot be read as a record. `reason` is one of the stable codes, and `detail` says what is wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class StoreUnavailable(WireError):
    """Redis did not answer in time."""


class StoreRefused(StoreUnavailable):
    """Redis refuses our requests because of the user name, password, rights or certificate, or since it is a cluster.

    It is a subclass of StoreUnavailable, because a running program continues with its weights until this is fixed.
    """


class StoreFull(StoreUnavailable):
    """Redis has no memory for a write, even after garbage collection."""


class FolderTaken(WireError):
    """A folder or an address holds the state of another service. The message has the fix."""


class UnsafePolicy(WireError):
    """The eviction policy of the Redis server may delete weights."""


class NotFound(WireError):
    """The store has no such blob, version or plan."""


class BlobCorrupt(WireError):
    """The bytes of a blob do not have its digest."""


class BadSignature(WireError):
    """A manifest or plan was changed after it was signed, or was never signed."""


class UnknownKey(BadSignature):
    """A manifest or plan was signed with a key that this program does not have, or no longer accepts."""


class CannotSign(WireError):
    """This program does not have the key that a signature needs."""


class UnknownFormat(WireError):
    """A record has a format that this program cannot read."""


class StaleEpoch(WireError):
    """Another process has taken the lease. The caller must stop."""


class ParentMoved(WireError):
    """The version to publish was not trained from the version that is current now."""


class PlanMoved(WireError):
    """Another process has changed the rollout plan (the compare-and-swap failed). Read the plan again."""


class CommandsFull(WireError):
    """The log of commands is full."""


class LabelsChanged(WireError):
    """A command about labels does not have the next number, so another one came first. Read the commands again."""


class CommandMoved(WireError):
    """The store lost the log of commands. The log was written again, and another command has this number now."""


class BusRefused(WireError):
    """The broker refused a request, because of missing rights, its configuration, or the protocol version."""


class BusUnauthorized(BusRefused):
    """The broker accepts our credentials, and they do not have the right to do this."""


class BusUnauthenticated(BusRefused):
    """The broker does not accept our user name, password or token."""


class BusUntrusted(BusRefused):
    """The TLS connection failed, because one side does not trust the other one's certificate."""


class TracesUnavailable(WireError):
    """The settings ask for traces, and the package that sends them is not installed."""
