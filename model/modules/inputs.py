"""The text of an event as the numbers that a module reads: what a tokenizer is for the built-in family.

    text --Encoder.read--> numbers, at most `max_inputs` --RaggedBatch--> the module

Nothing is truncated: half of an image is none. A text that cannot be read is refused with the reason.
"""

from collections.abc import Sequence

from model.errors import UnreadableInput, WrongConfig
from model.modules.encoder import EncoderCode

MAX_NUMBER = (1 << 63) - 1


class ModuleInputs:
    """Reads texts for the module of `code`, whose name and digest tell its versions from others."""

    def __init__(self, code: EncoderCode) -> None:
        self.code = code
        self.name = code.config.shown
        self.digest = code.config.source
        self.max_tokens = code.config.max_inputs
        self.probe_texts = tuple(code.encoder.examples)
        self.vocab_size = 0  # there are no tokens, whose number an encoder could lack

    def encode_many(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]:
        """Returns the numbers of each text. `max_tokens` is that of the version, which is ours.

        Raises UnreadableInput for the first that cannot be read, and WrongConfig for another limit.
        """
        if max_tokens not in (None, self.max_tokens):
            raise WrongConfig(f"max_tokens is {max_tokens}, but {self.name} reads inputs of {self.max_tokens} numbers")
        return [self._read(text) for text in texts]

    def reads(self, text: str) -> bool:
        """Whether a text can be read."""
        try:
            self._read(text)
        except UnreadableInput:
            return False
        return True

    def _read(self, text: str) -> list[int]:
        try:
            numbers = list(self.code.encoder.read(text))
        except ValueError as error:
            raise UnreadableInput(str(error)) from error
        if not 0 < len(numbers) <= self.max_tokens:
            raise UnreadableInput(f"it has {len(numbers)} numbers; expected 1 to {self.max_tokens}")
        if not all(isinstance(number, int) and -MAX_NUMBER <= number <= MAX_NUMBER for number in numbers):
            raise UnreadableInput(f"{self.code.config.path}.read returned something else than whole numbers")
        return numbers
