"""What can go wrong in the learner itself."""


class LearnerError(Exception):
    """Anything that the learner refuses or cannot do."""


class CheckpointRefused(LearnerError):
    """A checkpoint that is torn, of another format, or of another model. The one before it is used."""


class CheckpointFailed(LearnerError):
    """A checkpoint could not be written (disk full, fsync failed): nothing is published, the old one stays."""


class DataError(LearnerError):
    """A data set that is missing or malformed; the message names the file, the line and the remedy."""
