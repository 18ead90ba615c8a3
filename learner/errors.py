"""The errors of the learner itself."""


class LearnerError(Exception):
    """The base of all errors of the learner."""


class CheckpointRefused(LearnerError):
    """A checkpoint is torn. The one before it is used."""


class CheckpointUnknown(CheckpointRefused):
    """This program cannot read a whole checkpoint. It may know more than the one before it, which is not used."""


class StateRefused(LearnerError):
    """This program cannot resume from the state folder under these settings.

    The message says what to do: the learner neither discards the state nor starts from nothing unless it is told to.
    """


class CheckpointFailed(LearnerError):
    """A checkpoint could not be written (disk full, fsync failed). Nothing is published, and the old one stays."""


class BaseRefused(LearnerError):
    """A base solution and the rows before it give different weights: labels were lost, or counted twice."""


class OfferRefused(LearnerError):
    """An encoder that was offered cannot be taken into use. `may_retry`: it may be possible later."""

    def __init__(self, message: str, *, may_retry: bool = False) -> None:
        super().__init__(message)
        self.may_retry = may_retry


class DataError(LearnerError):
    """A data set, a package or a strategy is missing or malformed, or a strategy fails. The message names it."""
