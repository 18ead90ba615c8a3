"""The errors of the learner, and the error about a missing package of an extra."""

from importlib.util import find_spec


class LearnerError(Exception):
    """The base of all errors of the learner."""


class CheckpointRefused(LearnerError):
    """A checkpoint file is corrupt or incomplete. The previous checkpoint is used."""


class CheckpointUnknown(CheckpointRefused):
    """This release cannot read an intact checkpoint. The previous one is not used, since it contains fewer labels."""


class StateRefused(LearnerError):
    """This program cannot resume from the state folder under these settings.

    The message says what to do: the learner neither discards the state nor starts empty unless it is told to.
    """


class CheckpointFailed(LearnerError):
    """A checkpoint could not be written (disk full, fsync failed). Nothing is published; the old checkpoint stays."""


class BaseRefused(LearnerError):
    """A newly solved ridge head differs from the incrementally updated one: labels were lost, or counted twice."""


class OfferRefused(LearnerError):
    """An encoder that an operator offered cannot be adopted. `may_retry`: it may be possible later."""

    def __init__(self, message: str, *, may_retry: bool = False) -> None:
        super().__init__(message)
        self.may_retry = may_retry


class DataError(LearnerError):
    """A data set, package or training strategy is missing or malformed, or a strategy fails. The message names it."""


def is_installed(package: str) -> bool:
    """Returns whether `package` can be imported."""
    return find_spec(package) is not None


def require(package: str, *, extra: str) -> None:
    """Raises DataError if `package` is missing. The message says how to install it with the extra `extra`."""
    if not is_installed(package):
        raise DataError(how_to_install(package, extra=extra))


def how_to_install(package: str, *, extra: str) -> str:
    """Returns the message that `package` is missing, with the command that installs the extra it belongs to."""
    return f"{package} is not installed: pip install 'lifelong[{extra}]' (in this folder: '.[{extra}]')"
