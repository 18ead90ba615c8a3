"""Subjects, under the names that may be written down: whom a text is about is not to be read from a manifest or a log.

    key of an event --digest, under a secret--> who was erased, in the store, in checkpoints, in reports

The digest is keyed (HMAC-SHA256, cut to 128 bits), so that who can read Redis cannot try all customers; the same key of
an event gives the same digest everywhere in one installation. Rejected: a plain hash (there are few customer numbers).
"""

import hmac
from hashlib import sha256
from typing import Final

from wire.receipts import derived

DIGEST_BYTES: Final = 16


class Subjects:
    """Makes digests of subjects. ValueError for an empty key."""

    def __init__(self, signing_key: bytes) -> None:
        if not signing_key:
            raise ValueError("subjects need a signing key")
        self._key = derived(signing_key, b"lifelong subject v1")

    def digest(self, subject: str) -> str:
        """The name of `subject`, 32 hexadecimal digits. ValueError for "": nobody."""
        if not subject:
            raise ValueError("no subject: events without a key are about nobody that can be told from others")
        return hmac.digest(self._key, subject.encode(), sha256)[:DIGEST_BYTES].hex()
