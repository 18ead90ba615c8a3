"""The text of a ring, as settings and files have it: one key a line, or several between commas; # begins a remark."""

import re
from typing import Final

from wire.keyring.key import PAIRS, SECRET_BYTES, Key, Kind, new_key
from wire.keyring.ring import KeyRing

MAX_KEYS: Final = 32
"""Most keys of a ring."""

_HAS_WORD: Final = re.compile(rf"(?:{'|'.join(Kind)}):")
_LOOKS_LIKE_A_WORD: Final = re.compile(r"(?:ed25519|shared|receipt|subject)-\w+:", re.IGNORECASE)


def parse(text: str) -> KeyRing:
    """Returns the ring of a text. Raises ValueError, which names the place and the fix, and never a secret.

    A text in which no line begins as a key does is one shared secret, as in earlier releases.
    """
    if not text:
        raise ValueError("there is no key")
    parts = _parts(text)
    if not any(_LOOKS_LIKE_A_WORD.match(part) for part in parts.values()):
        return KeyRing((Key(Kind.SHARED, text.encode()),))
    keys = tuple(dict.fromkeys(_key_of(part, place) for place, part in parts.items()))
    if len(keys) > MAX_KEYS:
        raise ValueError(f"{len(keys)} keys are more than {MAX_KEYS}: remove lines of keys that are retired")
    ring = KeyRing(keys)
    if not ring.of(*PAIRS, Kind.SHARED):
        raise ValueError(f"no key signs or verifies: there is neither {Kind.SECRET} nor {Kind.PUBLIC}")
    if not ring.receipts:
        raise ValueError(f"there is no {Kind.RECEIPT}, so no receipt can be made: give all lines of the file of keys")
    return ring


def new_ring() -> KeyRing:
    """Returns the keys of a new installation."""
    return KeyRing(tuple(new_key(kind) for kind in (Kind.SECRET, Kind.RECEIPT, Kind.SUBJECT)))


def _parts(text: str) -> dict[str, str]:
    """Returns what stands between line ends and commas, by its place."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = [] if line.lstrip().startswith("#") else [word.strip() for word in line.split(",")]
        found |= {f"line {number}, key {place}": word for place, word in enumerate(words, 1) if word}
    return found


def _key_of(part: str, place: str) -> Key:
    if not _HAS_WORD.match(part):
        raise ValueError(f"{place}: begins with no kind of key. There are {', '.join(Kind)}, each with a : behind it")
    word, _, digits = part.partition(":")
    kind = Kind(word)
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        raise ValueError(f"{place}: what stands behind {kind}: is not hexadecimal") from None
    if len(value) != SECRET_BYTES and not (kind is Kind.SHARED and value):
        raise ValueError(f"{place}: {kind} has {2 * SECRET_BYTES} hexadecimal digits, and here are {len(digits)}")
    return Key(kind, value)
