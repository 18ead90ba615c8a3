"""Pseudonyms of data subjects: keyed digests, so that manifests, checkpoints and logs do not name whom a text is about.

    key of an event --digest, under a secret--> the erased subject in the store, in checkpoints, in reports

The digest is keyed (HMAC-SHA256, truncated to 128 bits), so that a reader of Redis cannot find a subject by trying all
customer numbers. One key of events has the same digest everywhere in one installation, and for good: `KeyRing.subject`
stays while keys that sign rotate. Rejected: a plain hash (there are few customer numbers).
"""

import hmac
from hashlib import sha256
from typing import Final

DIGEST_BYTES: Final = 16


def subject_digest(subject_key: bytes, subject: str) -> str:
    """Returns the digest of `subject`, 32 hexadecimal digits.

    Raises ValueError for an empty key, and for the subject "", which names nobody.
    """
    if not subject_key:
        raise ValueError("subjects need a key")
    if not subject:
        raise ValueError("no subject: events without a key are about nobody that can be told from others")
    return hmac.digest(subject_key, subject.encode(), sha256)[:DIGEST_BYTES].hex()
