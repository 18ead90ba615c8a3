"""The commands about labels, and what became of each.

    request(LabelCommand) -> the signed list `labels`, in order -> learner, replicas, rollout; learner -> note, outcome

A command is permanent: a learner that starts from nothing follows the list before it learns, and whoever translates
labels reads all of it. The learner has the commands in its checkpoint, and writes them again where the server was
wiped. The number of a command is its place in the list, so that two operators at the same time cannot both be right
about what the set was.

Rejected: one record of the set as it is now (a label of the time between two changes could not be told, and whoever
wrote last would undo what came between).
"""

from collections.abc import Sequence

from wire.errors import BadSignature, LabelsChanged
from wire.keyring import KeyRing
from wire.records import LabelCommand, LabelOutcome
from wire.store import keys, signed
from wire.store.server import Server

MAX_COMMANDS = 10_000
"""Most commands: every checkpoint of the learner holds all of them."""

_REQUEST = """
local number = tonumber(ARGV[2])
local length = redis.call('LLEN', KEYS[1])
if length >= number then return redis.call('LINDEX', KEYS[1], number - 1) == ARGV[1] and 1 or 0 end
if length ~= number - 1 then return 0 end
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
        if not self._server.run(_REQUEST, (self._list,), (body, command.number)):
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
