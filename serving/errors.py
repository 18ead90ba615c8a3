"""What can go wrong in a replica. Each has a stable code, which clients see and counters are named by."""


class ServingError(Exception):
    """Anything that a replica refuses or cannot do."""


class QueueFull(ServingError):
    """More texts wait for the model than we are willing to keep: come back later."""


class QueueClosed(ServingError):
    """The replica is being stopped."""


class VersionRefused(ServingError):
    """A version of the weights that must not answer. `reason` is a stable code, `detail` says what was found.

    `damaged` has the digests of the blobs that it lacks, where that is all that is wrong: it may be repaired.
    """

    def __init__(self, reason: str, detail: str, *, damaged: tuple[str, ...] = ()) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.damaged = damaged


class Unhealthy(ServingError):
    """A part of the replica has ended or hangs: replace it."""
