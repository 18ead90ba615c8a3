"""What operators ask of the learner, and what became of it: changes of the set of labels, an encoder, erasures.

    LabelCommands  request(LabelCommand) -> the signed list `labels`, in order -> learner, replicas, rollout
    Offers         make(EncoderOffer), whose blobs are stored -> one signed record -> the learner
    Erasures       request(digest) -> the sealed list `erasures`, in order -> the learner
    the learner    note(...) -> outcome(number), outcome(id), of(digest) -> operators

Commands about labels and requests to erase are permanent: a learner that starts from nothing reads both lists before it
learns, and whoever translates labels reads all commands about them. The learner has both lists in its checkpoint, and
writes them again if the server was wiped. The number of a command about labels is its place in the list, so that two
operators at the same time cannot both be right about what the set was. Each entry is signed or sealed, so whoever may
write to the server and has no key of ours requests nothing.

There is one offer at a time: the next one takes its place. An offer without an outcome is open, so a learner that is
killed finds it again, and the collector keeps its blobs.

Rejected: one record of the set of labels as it is now (a label of the time between two changes could not be told, and
whoever wrote last would undo what came between), a queue of offers (the second would be measured against an encoder
that nobody has seen yet), a topic of erasures (it expires, and is not ordered relative to the topics of answers and
labels), and only a flag on the manifest (a learner without a checkpoint would learn the subject first).
"""

from collections.abc import Sequence

from wire.errors import BadSignature, ErasuresFull, LabelsChanged
from wire.keyring import KeyRing
from wire.records import EncoderOffer, Erasure, LabelCommand, LabelOutcome, OfferOutcome, VersionEntry
from wire.store import keys, signed
from wire.store.server import Server
from wire.store.watch import NOTIFY

MAX_COMMANDS = 10_000
"""Most commands: every checkpoint of the learner holds all of them."""

_REQUEST_CHANGE = """
local number = tonumber(ARGV[2])
local length = redis.call('LLEN', KEYS[1])
if length >= number then return redis.call('LINDEX', KEYS[1], number - 1) == ARGV[1] and 1 or 0 end
if length ~= number - 1 then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[1])
return 1
"""

_MAKE_OFFER = """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'signature', ARGV[2], 'id', ARGV[3])
"""

_NOTE_OFFER = f"""{NOTIFY}
local offer, history, notices = unpack(KEYS, 1, 3)
local id, body, entry, limit = unpack(ARGV, 1, 4)
if redis.call('HGET', offer, 'id') ~= id or redis.call('HEXISTS', offer, 'outcome') == 1 then return end
redis.call('HSET', offer, 'outcome', body)
notify(history, notices, entry, limit)
"""

MAX_ERASURES = 100_000
"""Most subjects that may be erased: every checkpoint of the learner holds all of them."""

FOREIGN = ""
"""Stands for an entry of the list that no key of ours has sealed."""

_REQUEST_ERASURE = """
if redis.call('LPOS', KEYS[1], ARGV[1]) then return 1 end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[1])
return 1
"""


class LabelCommands:
    """The commands on one server."""

    def __init__(self, server: Server, ring: KeyRing) -> None:
        self._server = server
        self._ring = ring
        self._list = server.key(keys.LABELS)

    def request(self, command: LabelCommand) -> None:
        """Adds a command behind those below its number; returns when it is on disk. Idempotent.

        Raises LabelsChanged where another command has that number, or one below it is missing.
        """
        if command.number > MAX_COMMANDS:
            raise LabelsChanged(f"{MAX_COMMANDS} commands about labels were given already, and no more are kept")
        body = signed.signed_entry(signed.encode(command), self._ring, self._name(command.number))
        if not self._server.run(_REQUEST_CHANGE, (self._list,), (body, command.number)):
            raise LabelsChanged(f"somebody else has changed the labels: command {command.number} is not the next one")
        self._server.sync()

    def requested(self, first: int = 0) -> Sequence[LabelCommand]:
        """Returns the commands from index `first` on, in their order. Raises BadSignature, UnknownFormat."""
        commands = list[LabelCommand]()
        for number, value in enumerate(self._server.ask("LRANGE", self._list, first, -1), start=first + 1):
            name = self._name(number)
            command = signed.decode(signed.body_of(value, self._ring, name), LabelCommand, name)
            if command.number != number:
                raise BadSignature(f"{name} was signed as number {command.number}")
            commands.append(command)
        return commands

    def _name(self, number: int) -> str:
        return self._server.key(keys.LABEL, number)

    def note(self, outcome: LabelOutcome) -> None:
        """Stores what became of a command."""
        self._server.ask("SET", self._server.key(keys.LABEL, outcome.number), signed.encode(outcome))

    def outcome(self, number: int) -> LabelOutcome | None:
        """Returns what became of a command; None where no learner has followed it yet."""
        key = self._server.key(keys.LABEL, number)
        body = self._server.ask("GET", key)
        return None if body is None else signed.decode(body, LabelOutcome, key)


class Offers:
    """The offer on one server."""

    def __init__(self, server: Server, ring: KeyRing) -> None:
        self._server = server
        self._ring = ring
        self._key = server.key(keys.OFFER)

    def make(self, offer: EncoderOffer) -> None:
        """Offers an encoder, whose blobs are stored, in place of the last one; returns when the offer is on disk."""
        body = signed.encode(offer)
        self._server.run(_MAKE_OFFER, (self._key,), (body, self._ring.sign(body, self._key), offer.id))
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
        self._server.run(_NOTE_OFFER, script_keys, (outcome.offer, *bodies, self._server.config.history))

    def outcome(self, offer: str) -> OfferOutcome | None:
        """Returns what became of an offer; None while the learner has not decided, or where another took its place."""
        body = self._server.ask("HGET", self._key, "outcome")
        outcome = None if body is None else signed.decode(body, OfferOutcome, self._key)
        return outcome if outcome is not None and outcome.offer == offer else None


class Erasures:
    """The requests on one server."""

    def __init__(self, server: Server, ring: KeyRing) -> None:
        self._server = server
        self._ring = ring
        self._list = server.key(keys.ERASURES)

    def request(self, digest: str) -> None:
        """Requests an erasure; returns when the request is on disk. Idempotent. Raises ErasuresFull, CannotSign."""
        entry = signed.sealed(digest.encode(), self._ring, self._list)
        is_listed = self._server.run(_REQUEST_ERASURE, (self._list,), (entry, MAX_ERASURES))
        if not is_listed and self._remove_foreign():
            is_listed = self._server.run(_REQUEST_ERASURE, (self._list,), (entry, MAX_ERASURES))
        if not is_listed:
            raise ErasuresFull(f"{MAX_ERASURES} subjects were erased already, and a learner remembers no more")
        self._server.sync()

    def requested(self, first: int) -> list[str]:
        """Returns the digests from index `first` on, in the order of the requests; FOREIGN for what is no request."""
        return [self._digest_of(entry) for entry in self._server.ask("LRANGE", self._list, first, -1)]

    def note(self, erasure: Erasure) -> None:
        """Stores the state of a request."""
        self._server.ask("SET", self._server.key(keys.ERASURE, erasure.digest), signed.encode(erasure))

    def of(self, digest: str) -> Erasure | None:
        """Returns the state of a request; None where no learner has read it yet."""
        key = self._server.key(keys.ERASURE, digest)
        body = self._server.ask("GET", key)
        return None if body is None else signed.decode(body, Erasure, key)

    def _digest_of(self, entry: bytes) -> str:
        try:
            return signed.opened(entry, self._ring, self._list).decode()
        except (BadSignature, UnicodeDecodeError):
            return FOREIGN

    def _remove_foreign(self) -> int:
        """Removes the entries that are no requests of ours; returns how many there were."""
        entries = self._server.ask("LRANGE", self._list, 0, -1)
        foreign = [entry for entry in entries if self._digest_of(entry) == FOREIGN]
        self._server.ask_many([("LREM", self._list, 0, entry) for entry in foreign])
        return len(foreign)
