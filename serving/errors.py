"""The errors of a replica."""


class ServingError(Exception):
    """The base class of a replica's errors."""


class QueueFull(ServingError):
    """The queue is full: try again later."""


class QueueClosed(ServingError):
    """The queue accepts no more events, because the replica is being stopped."""


class VersionRefused(ServingError):
    """A version of the weights must not answer. `reason` is a stable code, and `detail` describes the problem.

    If the only problem is damaged or missing blobs, `damaged` has their digests, because they may be repaired.
    """

    def __init__(self, reason: str, detail: str, *, damaged: tuple[str, ...] = ()) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.damaged = damaged


class NotYet(ServingError):
    """Another replica must load this version first."""

    def __init__(self, number: int) -> None:
        super().__init__(f"another replica loads version {number} first")


class Unhealthy(ServingError):
    """A part of the replica has ended or hangs: the replica must be replaced."""


class BadCertificate(ValueError):
    """The files of a certificate cannot be read, or do not belong together."""
