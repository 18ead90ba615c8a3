"""The errors of weights, tokens and encoders. Every message names the value that was found and the expected one."""


class ModelError(Exception):
    """The base of every error of this package."""


class WrongConfig(ModelError, ValueError):
    """A config with an unknown or missing field, or a value out of range."""


class WrongShape(ModelError, ValueError):
    """A tensor whose name, dtype, parts or shape is not what the config requires."""


class NonFinite(ModelError, ValueError):
    """A weight with an infinite value, a NaN, or a value that is too large for its format."""

    reason = "not_finite"


class BadBlob(ModelError, ValueError):
    """Bytes that are not the expected tensor: too few, too many, not safetensors, or with integers that do not fit."""


class MissingWeight(ModelError, KeyError):
    """A weight that the config requires is missing."""

    def __str__(self) -> str:
        return str(self.args[0])


class BadTokens(ModelError, ValueError):
    """An empty batch, an empty sequence, a sequence that is too long, or a token id outside the vocabulary."""


class EncoderNotFound(ModelError, LookupError):
    """There is no encoder under this name: neither a package, nor a folder, nor a cached download."""


class EncoderChanged(ModelError, ValueError):
    """A file of an encoder's package is not the one that was published."""


class UnreadableInput(ModelError, ValueError):
    """An input that the user's encoder or input codec cannot read; the message says why."""
