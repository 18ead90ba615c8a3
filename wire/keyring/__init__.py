"""The keys of a program: with which it signs, what it accepts, and what proves a receipt. Pure functions of one text.

    parse(text of the setting signing_key) -> KeyRing --sign, seal--> learner, controller, operators
                                                      --verify--> all programs, replicas among them
    KeyRing --for_replicas--> the keys without those that sign

`key` has one key and the cryptography, `ring` the list, `parsing` its text, `key_file` the file, which is read again
when it changes. The first key that can sign signs, and all are accepted, so keys rotate without a version being
refused. A key is a word and hexadecimal digits:

    ed25519-secret    signs (RFC 8032)                               learner, controller, operators
    ed25519-next      signs after the next rotation, and is accepted before
    ed25519-public    verifies what the secret of its pair signed    replicas
    ed25519-retired   a public key that is not accepted any more: what it signed is refused by its name
    shared-secret     HMAC-SHA256, as earlier releases signed: whoever can verify with it can sign with it
    receipt-secret    makes and checks receipts (`wire/receipts.py`); all programs
    subject-secret    names erased subjects (`wire/subjects.py`); learner, operators

A signature names its key: `ed25519:<id>:<signature>`. One without a name is an HMAC by a shared secret. A kind verifies
with keys of its own kind alone, so that a public key is never taken for a secret that everybody knows.

Rejected: X.509 and JWK (there is no chain and no choice of algorithms here, and a choice is a way to be fooled), PEM (a
ring would be a folder, and secrets are mounted as files), and one setting for each kind (a program would have half of
the keys of one installation and half of another's).
"""

from wire.keyring.key import PAIRS, SIGNING, Key, Kind, derived, new_key, signer_of
from wire.keyring.key_file import followed, given
from wire.keyring.parsing import new_ring, parse
from wire.keyring.ring import KeyRing

__all__ = [
    "PAIRS",
    "SIGNING",
    "Key",
    "KeyRing",
    "Kind",
    "derived",
    "followed",
    "given",
    "new_key",
    "new_ring",
    "parse",
    "signer_of",
]
