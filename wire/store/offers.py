"""The encoder that is offered to the learner, and what became of the offer.

    make(EncoderOffer): blobs are stored -> one signed record -> the learner -> note(OfferOutcome) -> outcome(id)

There is one offer at a time: the next one takes its place. An offer without an outcome is open, so a learner that is
killed finds it again, and the collector keeps its blobs.

Rejected: a queue of offers (the second would be measured against an encoder that nobody has seen yet).
"""

from wire.keyring import KeyRing
from wire.records import EncoderOffer, OfferOutcome, VersionEntry
from wire.store import keys, signed
from wire.store.server import Server
from wire.store.watch import NOTIFY

_MAKE = """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'signature', ARGV[2], 'id', ARGV[3])
"""

_NOTE = f"""{NOTIFY}
local offer, history, notices = unpack(KEYS, 1, 3)
local id, body, entry, limit = unpack(ARGV, 1, 4)
if redis.call('HGET', offer, 'id') ~= id or redis.call('HEXISTS', offer, 'outcome') == 1 then return end
redis.call('HSET', offer, 'outcome', body)
notify(history, notices, entry, limit)
"""


class Offers:
    """The offer on one server."""

    def __init__(self, server: Server, ring: KeyRing) -> None:
        self._server = server
        self._ring = ring
        self._key = server.key(keys.OFFER)

    def make(self, offer: EncoderOffer) -> None:
        """Offers an encoder, whose blobs are stored, in place of the last one; returns when the offer is on disk."""
        body = signed.encode(offer)
        self._server.run(_MAKE, (self._key,), (body, self._ring.sign(body, self._key), offer.id))
        self._server.sync()

    def open(self) -> EncoderOffer | None:
        """Returns the last offer, unless it has an outcome. Raises BadSignature, UnknownFormat."""
        if self._server.ask("HEXISTS", self._key, "outcome"):
            return None
        body = signed.fetch(self._server, self._key, self._ring)
        return None if body is None else signed.decode(body, EncoderOffer, self._key)

    def note(self, outcome: OfferOutcome) -> None:
        """Stores what became of the offer, and adds it to the history of versions. The first outcome of each holds."""
        detail = ": ".join(["encoder " + outcome.name, *filter(None, [", ".join(outcome.reasons)])])
        entry = VersionEntry(version=outcome.version, action=outcome.state, time_ms=outcome.time_ms, detail=detail)
        script_keys = (self._key, self._server.key(keys.HISTORY), self._server.key(keys.NOTICES))
        bodies = (signed.encode(outcome), signed.encode(entry))
        self._server.run(_NOTE, script_keys, (outcome.offer, *bodies, self._server.config.history))

    def outcome(self, offer: str) -> OfferOutcome | None:
        """Returns what became of an offer; None while the learner has not decided, or where another took its place."""
        body = self._server.ask("HGET", self._key, "outcome")
        outcome = None if body is None else signed.decode(body, OfferOutcome, self._key)
        return outcome if outcome is not None and outcome.offer == offer else None
