"""The errors of a replica. Each has a stable code, which clients see and which names its counter."""


class ServingError(Exception):
    """The base of every error of a replica."""


class QueueFull(ServingError):
    """The queue has as many texts as it may: try again later."""


class QueueClosed(ServingError):
    """The replica is being stopped."""


class VersionRefused(ServingError):
    """A version of the weights that must not answer. `reason` is a stable code, `detail` says what was wrong.

    `damaged` has the digests of the damaged or missing blobs, where nothing else is wrong: the version may be repaired.
    """

    def __init__(self, reason: str, detail: str, *, damaged: tuple[str, ...] = ()) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.damaged = damaged


class NotYet(ServingError):
    """A version that another replica is to load first."""

    def __init__(self, number: int) -> None:
        super().__init__(f"another replica loads version {number} first")


class Unhealthy(ServingError):
    """A part of the replica has ended or hangs: the replica must be replaced."""


class BadCertificate(ValueError):
    """Files of a certificate that cannot be read, or do not belong together."""
