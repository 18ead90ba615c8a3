"""The errors of weights, tokens and encoders. Every message names the value and the expected one."""


class ModelError(Exception):
    """The base of every error of this package."""


class WrongConfig(ModelError, ValueError):
    """A config with an unknown or missing field, or a value out of range."""


class WrongShape(ModelError, ValueError):
    """A tensor whose name, dtype, parts or shape differs from the config's."""


class NonFinite(ModelError, ValueError):
    """A weight with an infinite value or a NaN, or one too large for its format."""

    reason = "not_finite"


class BadBlob(ModelError, ValueError):
    """Bytes that are not the expected tensor: too few, too many, not safetensors, or inconsistent integers."""


class MissingWeight(ModelError, KeyError):
    """A weight that the config requires and the set does not have."""

    def __str__(self) -> str:
        return str(self.args[0])


class BadTokens(ModelError, ValueError):
    """An empty batch, an empty or too long sequence, or a token id outside the vocabulary."""


class EncoderNotFound(ModelError, LookupError):
    """There is no encoder under this name: neither a package, nor a folder, nor a cached download."""


class EncoderChanged(ModelError, ValueError):
    """A file of an encoder's package is not the one that was published."""


class UnreadableInput(ModelError, ValueError):
    """A text that the encoder of the user cannot read; the message says why."""
