"""Converts texts to token ids with the tokenizer that an encoder was trained with."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from model.errors import BadTokens, EncoderNotFound, WrongConfig
from model.source import encoder_folder, max_positions

# The library's own threads would have to be woken, and on a busy machine waited for, to save microseconds.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

MAX_TOKENS = 256
"""The default length limit of a sequence, in tokens; MiniLM-L6 was trained on 128 and reads 512."""


class TextTokenizer:
    """Encodes texts. A text becomes at least an opening and a closing token, so even an empty text has an answer.

    `digest` is the hex SHA-256 of tokenizer.json, a part of the model spec. Texts are truncated to `max_tokens`. A
    tokenizer may be shared between threads. Raises BadTokens if `max_tokens` leaves no token of a text.
    """

    def __init__(self, tokenizer_json: bytes, *, max_tokens: int = MAX_TOKENS) -> None:
        self.max_tokens = max_tokens
        self.digest = hashlib.sha256(tokenizer_json).hexdigest()
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except ValueError as error:
            raise EncoderNotFound(f"tokenizer.json cannot be read: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()  # `_truncate` does it
        self._num_special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._check(max_tokens)

    @classmethod
    def from_encoder(cls, encoder: str, *, max_tokens: int | None = None) -> "TextTokenizer":
        """Reads the tokenizer of 'minilm-l6', of a local folder, or of a cached Hugging Face id.

        Raises EncoderNotFound.
        """
        return cls.from_folder(encoder_folder(encoder), max_tokens=max_tokens)

    @classmethod
    def from_folder(cls, folder: Path, *, max_tokens: int | None = None) -> "TextTokenizer":
        """Reads the tokenizer in `folder`. The default `max_tokens` is MAX_TOKENS, or fewer if positions are fewer.

        Raises WrongConfig for more tokens than the encoder has positions.
        """
        positions = max_positions(folder)
        if max_tokens is not None and max_tokens > positions:
            raise WrongConfig(f"max_tokens is {max_tokens}, but the encoder in {folder} has {positions} positions")
        limit = min(MAX_TOKENS, positions) if max_tokens is None else max_tokens
        return cls((folder / "tokenizer.json").read_bytes(), max_tokens=limit)

    def encode_many(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]:
        """Returns the token ids of each text, truncated to `max_tokens` (by default the tokenizer's own limit).

        The last token of a truncated text is still the closing one.
        """
        limit = self.max_tokens if max_tokens is None else max_tokens
        self._check(limit)
        encodings = self._tokenizer.encode_batch_fast([_unicode(text) for text in texts])
        return [_truncate(encoding.ids, limit) for encoding in encodings]

    def _check(self, max_tokens: int) -> None:
        if max_tokens <= self._num_special:
            raise BadTokens(f"max_tokens is {max_tokens}; expected more than {self._num_special}")


def _unicode(text: str) -> str:
    """Replaces an unpaired surrogate, which JSON can express and UTF-8 cannot, by a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _truncate(ids: list[int], max_tokens: int) -> list[int]:
    # the library's truncation is state of the tokenizer, and two callers may want different lengths
    return ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]
