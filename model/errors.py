"""What can be wrong with weights, tokens and encoders. Every message names the value and what was expected."""


class ModelError(Exception):
    """Anything the model refuses."""


class WrongConfig(ModelError, ValueError):
    """A config with an unknown or missing field, or a value out of range."""


class WrongShape(ModelError, ValueError):
    """A tensor whose name, dtype, parts or shape is not what the config asks for."""


class NonFinite(ModelError, ValueError):
    """A weight with an infinite value or a NaN, or one too large for its format."""


class BadBlob(ModelError, ValueError):
    """Bytes that are not the tensor they should be: cut short, too many, or not safetensors."""


class MissingWeight(ModelError, KeyError):
    """A weight that the config asks for and the set does not have."""

    def __str__(self) -> str:
        return str(self.args[0])


class BadTokens(ModelError, ValueError):
    """An empty batch, an empty or too long sequence, or a token id outside the vocabulary."""


class EncoderNotFound(ModelError, LookupError):
    """No encoder under this name: neither a package, nor a folder, nor a cached download."""
