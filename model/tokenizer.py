"""Converts texts to token ids with the tokenizer that an encoder was trained with."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from model.errors import BadTokens, EncoderNotFound, WrongConfig
from model.published import read_published
from model.source import encoder_folder

# The library's threads save microseconds. On a busy machine, waking them and waiting for them takes longer.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

MAX_TOKENS = 256
"""The default limit on the length of a text, in tokens."""

MIN_SPECIAL = 2
"""The fewest special tokens that a tokenizer must put around a text: an opening and a closing token."""

PROBE_TEXTS = (
    "how much money is left on my card",
    "please wake me up at seven tomorrow morning",
    "Das Paket ist noch nicht angekommen.",
    "?",
)
"""Texts on which versions of every encoder are compared before any text of the stream has arrived."""


class TextTokenizer:
    """Converts texts to token ids. A text becomes at least two tokens, so even an empty text can be classified.

    `prefix` is put before each text. Texts are truncated to `max_tokens` tokens, prefix included. `digest` is the hex
    SHA-256 of tokenizer.json and the prefix; it is part of the model spec. Threads may share a tokenizer.

    Raises EncoderNotFound if the bytes are not a tokenizer, WrongConfig if it puts no tokens around a text, and
    BadTokens if `max_tokens` leaves no room for a token of the text.
    """

    probe_texts = PROBE_TEXTS

    def __init__(self, tokenizer_json: bytes, *, max_tokens: int = MAX_TOKENS, prefix: str = "") -> None:
        self.max_tokens = max_tokens
        self.prefix = prefix
        self.digest = hashlib.sha256(tokenizer_json + prefix.encode()).hexdigest()
        self.name = f"a tokenizer with the digest {self.digest[:12]}"
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except ValueError as error:
            raise EncoderNotFound(f"tokenizer.json cannot be read: {error}") from error
        self._tokenizer.no_padding()
        # `encode_many` truncates.
        self._tokenizer.no_truncation()
        self._num_special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if self._num_special < MIN_SPECIAL:
            raise WrongConfig(
                f"tokenizer.json puts {self._num_special} tokens around a text; expected an opening and a closing one. "
                "Save the tokenizer again with its post-processor"
            )
        if max_tokens <= self._num_special:
            raise self._too_few(max_tokens)

    @classmethod
    def from_encoder(cls, encoder: str, *, max_tokens: int | None = None) -> "TextTokenizer":
        """Reads the tokenizer of 'minilm-l6', of a local folder, or of a cached Hugging Face id.

        Raises EncoderNotFound or WrongConfig.
        """
        return cls.from_folder(encoder_folder(encoder), max_tokens=max_tokens)

    @classmethod
    def from_folder(cls, folder: Path, *, max_tokens: int | None = None) -> "TextTokenizer":
        """Reads the tokenizer in `folder`, and the prefix of its encoder.

        If `max_tokens` is None, the limit of the publisher applies.

        Raises EncoderNotFound, or WrongConfig if `max_tokens` exceeds the positions of the encoder, or if the tokenizer
        does not fit the encoder.
        """
        published = read_published(folder)
        config = published.config
        if max_tokens is not None and max_tokens > config.max_sequence:
            raise WrongConfig(
                f"max_tokens is {max_tokens}, but the encoder in {folder} has {config.max_sequence} positions"
            )
        limit = published.max_tokens if max_tokens is None else max_tokens
        tokenizer = cls((folder / "tokenizer.json").read_bytes(), max_tokens=limit, prefix=config.prefix)
        num_tokens = tokenizer.vocab_size
        if num_tokens > config.vocab:
            raise WrongConfig(f"{folder}: tokenizer.json has {num_tokens} tokens, but the encoder {config.vocab}")
        if published.is_lower_case and tokenizer.encode_many(["A"]) != tokenizer.encode_many(["a"]):
            raise WrongConfig(
                f"{folder}: sentence_bert_config.json has do_lower_case, but tokenizer.json does not lower texts. Add "
                "the normalizer Lowercase to it"
            )
        return tokenizer

    @property
    def kind(self) -> str:
        """The name of the algorithm, for example `WordPiece`."""
        return type(self._tokenizer.model).__name__

    @property
    def vocab_size(self) -> int:
        """The number of token ids, special tokens included."""
        return self._tokenizer.get_vocab_size()

    def encode_many(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]:
        """Returns the token ids of each text, truncated to `max_tokens` (by default the tokenizer's own limit).

        A truncated text still ends with the closing token. Raises BadTokens if the limit leaves no room for a token of
        the text.
        """
        limit = self.max_tokens if max_tokens is None else max_tokens
        if limit <= self._num_special:
            raise self._too_few(limit)
        readable = [text if text.isascii() else _unicode(text) for text in texts]
        encodings = self._tokenizer.encode_batch_fast([self.prefix + text for text in readable])
        token_ids: list[list[int]] = []
        for encoding in encodings:
            ids: list[int] = encoding.ids
            # The library's truncation is part of the tokenizer's state, but two callers may want different limits.
            token_ids.append(ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]])
        return token_ids

    def reads(self, text: str) -> bool:
        """Returns True: every text can be read."""
        return True

    def _too_few(self, max_tokens: int) -> BadTokens:
        return BadTokens(f"max_tokens is {max_tokens}; expected more than {self._num_special}")


def _unicode(text: str) -> str:
    """Replaces unpaired surrogates, which JSON can express but UTF-8 cannot, by question marks."""
    return text.encode("utf-8", "replace").decode()
