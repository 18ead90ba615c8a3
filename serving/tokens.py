"""Texts to tokens, before the queue, so that every item knows what it costs."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from model.tokenizer import TextTokenizer

Encode: TypeAlias = Callable[[Sequence[str]], list[list[int]]]


def encoding(tokenizer: TextTokenizer, max_tokens: Callable[[], int]) -> Encode:
    """Token ids of each text, at most as many as `max_tokens` says then."""

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return tokenizer.encode_many(texts, max_tokens=max_tokens())

    return encode
