"""The bounds of what a record carries: bytes of an event, tokens and characters of a text."""

MAX_EVENT_BYTES = 1 << 20
"""Largest payload of an event, in bytes; a larger one becomes a dead letter (Kafka) or a 413 (HTTP)."""

MAX_TEXT_TOKENS = 8_192
"""Most tokens of a text that a model may read."""

_CHARS_PER_TOKEN = 16
_MIN_TEXT_CHARS = 16_384

MAX_TEXT_CHARS = _CHARS_PER_TOKEN * MAX_TEXT_TOKENS
"""Longest text that a record carries, in characters: that of so many tokens. Of a longer one the beginning is read."""


def text_chars(max_tokens: int) -> int:
    """Returns how much of a text an `Answer` carries back, in characters, where the model reads `max_tokens` of it.

    >>> text_chars(256), text_chars(2_048), text_chars(8_192)
    (16384, 32768, 131072)
    """
    return min(max(_MIN_TEXT_CHARS, _CHARS_PER_TOKEN * max_tokens), MAX_TEXT_CHARS)
