"""What can go wrong in the learner itself."""


class LearnerError(Exception):
    """Anything that the learner refuses or cannot do."""


class CheckpointRefused(LearnerError):
    """A checkpoint that is torn. The one before it is used."""


class CheckpointUnknown(CheckpointRefused):
    """A whole checkpoint that this program cannot read. It may know more than the one before it, which is not used."""


class StateRefused(LearnerError):
    """What is in the state folder cannot be gone on from by this program under these settings.

    The message says what to do: nothing is thrown away, and nothing begins from nothing, without being told to.
    """


class CheckpointFailed(LearnerError):
    """A checkpoint could not be written (disk full, fsync failed): nothing is published, the old one stays."""


class DataError(LearnerError):
    """A data set that is missing or malformed; the message names the file, the line and the remedy."""
