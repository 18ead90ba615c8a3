"""The keys of one program, in their order: what it signs with, what it accepts, and what proves a receipt."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wire.errors import BadSignature, CannotSign, UnknownKey
from wire.keyring.key import ED25519, ID_CHARS, PAIRS, SIGNING, Key, Kind, derived, identity_and_code

HMAC_CHARS: Final = 64

_FIX: Final = "give this program the file of keys of the learner, in LIFELONG_SIGNING_KEY_FILE"
_AGAIN: Final = (
    "if that key is to be trusted, give its public key to this program; else `lifelong signing-keys rotate` signs anew "
    "what is stored"
)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of one program. Verbs: sign, verify, seal, open.

    Thread-safe: nothing changes but what `current` returns, the keys of a file that is followed (None: those given).
    """

    given: tuple[Key, ...]
    current: Callable[[], tuple[Key, ...]] | None = field(default=None, compare=False, repr=False)

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys in force, in their order: the same tuple until they change."""
        return self.given if self.current is None else self.current()

    @property
    def signer(self) -> Key | None:
        """The key that signs: the first that can; None in a ring that can only verify."""
        return next((key for key in self.keys if key.kind in SIGNING), None)

    @property
    def accepted(self) -> tuple[str, ...]:
        """The ids of the keys whose signatures are accepted, the one that signs first; then those of receipts."""
        return tuple(key.id for key in (*self.of(*SIGNING), *self.of(Kind.NEXT, Kind.PUBLIC), *self.of(Kind.RECEIPT)))

    @property
    def receipts(self) -> tuple[bytes, ...]:
        """The secrets of receipts: the first makes them, all are accepted."""
        return tuple(key.value for key in self.keys if key.kind in (Kind.RECEIPT, Kind.SHARED))

    @property
    def subject(self) -> bytes:
        """The key that names subjects. It stays while other keys rotate, as its digests are kept for good.

        Raises CannotSign.
        """
        if found := self.of(Kind.SUBJECT):
            return found[0].value
        if shared := self.of(Kind.SHARED):
            return derived(shared[0].value, b"lifelong subject v1")
        raise CannotSign(f"there is no {Kind.SUBJECT} among our keys, which names who is erased: {_FIX}")

    @property
    def holdout(self) -> bytes:
        """The secret that draws the holdout. It stays while other keys rotate, or an event might be learnt after all.

        Raises CannotSign.
        """
        return derived(self.subject, b"lifelong holdout v1")

    @property
    def why_unsafe(self) -> str:
        """What a shared secret allows, with the way out; empty where there is none."""
        if not self.of(Kind.SHARED):
            return ""
        return "Whoever verifies with a shared secret can sign with it: `lifelong signing-keys new`, then `rotate`"

    @property
    def text(self) -> str:
        """The ring as a setting or a file has it."""
        return "".join(f"{key.line}\n" for key in self.keys)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log may show. A shared secret is also known by its text."""
        lines = [key.value.hex() for key in self.of(*SIGNING, Kind.NEXT, Kind.RECEIPT, Kind.SUBJECT)]
        return (*lines, *(key.value.decode(errors="replace") for key in self.of(Kind.SHARED)))

    def of(self, *kinds: Kind) -> tuple[Key, ...]:
        """Returns the keys of these kinds."""
        return tuple(key for key in self.keys if key.kind in kinds)

    def sign(self, body: bytes, name: str) -> str:
        """Returns the signature of the record `name`. Raises CannotSign.

        Names have the prefix and the task of the service, and the kind of the record: a Redis key has them all.
        """
        key = self.require_signer()
        return key.hmac(body, name) if key.kind is Kind.SHARED else f"{ED25519}:{key.id}:{key.sign(body, name).hex()}"

    def verify(self, body: bytes, signature: bytes, name: str) -> str:
        """Returns the id of the key that signed the record `name`.

        Raises UnknownKey where that is none that we accept, BadSignature where the record was changed since, or was
        signed under another name.
        """
        if named := identity_and_code(signature):
            identity, code = named
            self._verify(body, code, identity, name)
            return identity
        shared = self.of(Kind.SHARED)
        for key in shared:
            if hmac.compare_digest(signature, key.hmac(body, name).encode()):
                return key.id
        if shared or len(signature) != HMAC_CHARS:
            raise BadSignature(f"{name} was not signed with our key, or was changed since")
        raise UnknownKey(f"{name} was signed with a shared secret, and there is none among our keys: {_AGAIN}")

    def seal(self, body: bytes, name: str) -> str:
        """Returns a code that only a ring with the same secrets can check: fast enough for every judged event.

        Raises CannotSign.
        """
        return self.require_signer().seal(body, name)

    def open(self, body: bytes, code: bytes, name: str) -> None:
        """Raises BadSignature where no secret of ours has sealed `name`."""
        if not any(hmac.compare_digest(code, key.seal(body, name).encode()) for key in self.of(*SIGNING)):
            raise BadSignature(f"{name} was not signed with our key, or was changed since")

    def for_replicas(self) -> "KeyRing":
        """Returns what a replica needs: it can verify and make receipts, and sign neither weights nor plans.

        A shared secret can sign; it stays while it is in the list, or what it signed could not be verified.
        """
        kept = [key for key in self.keys if key.kind is not Kind.SUBJECT]
        public = [key.of_kind(Kind.PUBLIC) if key.kind in PAIRS else key for key in kept]
        return KeyRing(tuple(dict.fromkeys(public)))

    def require_signer(self) -> Key:
        """Returns the key that signs. Raises CannotSign."""
        if (key := self.signer) is None:
            raise CannotSign(f"our keys can verify and not sign, as those of a replica: {_FIX}")
        return key

    def _verify(self, body: bytes, code: str, identity: str, name: str) -> None:
        key = next((key for key in self.of(*PAIRS, Kind.RETIRED) if key.id == identity), None)
        if key is None:
            raise UnknownKey(f"{name} was signed with the key {identity[:ID_CHARS]}, which is not among ours: {_AGAIN}")
        try:
            is_ours = key.is_signature(bytes.fromhex(code), body, name)
        except ValueError:
            is_ours = False
        if not is_ours:
            raise BadSignature(f"{name} was changed, or signed as another record, with the key {identity}")
        if key.kind is Kind.RETIRED:
            raise UnknownKey(f"{name} was signed with the key {identity}, which is retired: {_AGAIN}")
