"""Texts to tokens, before the queue: what is too long is cut here, so every item knows what it costs."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from model.tokenizer import TextTokenizer
from wire.records import MAX_TEXT_CHARS

Encode: TypeAlias = Callable[[Sequence[str]], list[list[int]]]


def encoding(tokenizer: TextTokenizer, *, max_tokens: int) -> Encode:
    """Token ids of each text. Only what an answer carries back is read, so the learner reads the same."""

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return tokenizer.encode_many([text[:MAX_TEXT_CHARS] for text in texts], max_tokens=max_tokens)

    return encode
