"""The log of operators' commands: in one order, each entry signed under its number, with the outcome of each command.

    append(body) --numbered, signed, on disk--> `commands` --read(first)--> the learner --note(outcome)--> `outcomes`
           |-- a LabelCommand -> also the list `labels`, in order, which replicas and the rollout read
           '-- an EncoderOffer -> also the hash `offer`; the collector keeps its blobs until the offer is closed
    a step of the rollout --the script that writes the plan--> an entry with its outcome

Commands whose effect is part of the learner's state (`CommandBody.IS_KEPT`) are permanent: a learner that starts
without a checkpoint applies them before it learns. There are at most MAX_KEPT permanent commands. Of the other
commands, the log has the newest MAX_PASSING. Every checkpoint of the learner contains the permanent commands, and the
learner restores the log (`rewrite`) if the server was wiped. If a permanent command is appended twice, the log has it
once.

The list `labels` and the hash `offer` are the projections of the log. A signature covers the service, the task, the
kind of the record and its number. An entry without a valid signature for its number is ignored. So a client that can
write to the server cannot give a command unless it has one of our keys.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import count
from typing import Final, Literal, NamedTuple

import msgspec

from wire.errors import BadSignature, CommandMoved, CommandsFull, LabelsChanged, UnknownFormat, UnknownKey
from wire.keyring import KeyRing
from wire.records import Command, CommandBody, CommandEntry, CommandOutcome, EncoderOffer, LabelCommand, VersionEntry
from wire.store import keys, signed
from wire.store.server import WHEN_FULL, Server
from wire.store.watch import NOTIFY

MAX_KEPT: Final = 100_000
"""Largest number of permanent commands. Every checkpoint of the learner contains all of them."""

MAX_PASSING: Final = 1_000
"""Largest number of other commands: a new one removes the oldest."""

MAX_SEQ: Final = 1 << 50
"""The numbers of our commands are lower. An entry with this number or a higher one is foreign."""

BATCH: Final = 1_000
"""Number of outcomes that one call writes."""

APPEND: Final = """
local function is_taken(commands, seq)
  local top = redis.call('ZREVRANGE', commands, 0, 0, 'WITHSCORES')
  return tonumber(top[2] or 0) >= tonumber(seq)
end

local function append(commands, outcomes, passing, seq, entry, outcome, is_kept, max_passing)
  redis.call('ZADD', commands, seq, entry)
  if outcome ~= '' then redis.call('HSET', outcomes, seq, outcome) end
  if is_kept == '1' then return end
  redis.call('RPUSH', passing, seq)
  if redis.call('LLEN', passing) <= tonumber(max_passing) then return end
  local oldest = redis.call('LRANGE', passing, 0, 0)[1]
  redis.call('LTRIM', passing, 1, -1)
  redis.call('ZREMRANGEBYSCORE', commands, oldest, oldest)
  redis.call('HDEL', outcomes, oldest)
end
"""
"""Lua that defines `is_taken` and `append`. The script that writes the plan includes it, too."""

_PROJECT: Final = """
local function project(labels, offer, asked, seq, digest, verb, body, signature)
  if digest ~= '' then redis.call('HSET', asked, digest, seq) end
  if verb == 'relabel' then redis.call('RPUSH', labels, body) end
  if verb == 'adopt' then
    redis.call('DEL', offer)
    redis.call('HSET', offer, 'body', body, 'signature', signature, 'seq', seq)
  end
end
"""

_ADD: Final = f"""{APPEND}{_PROJECT}
local outcomes, commands, passing, asked, labels, offer = unpack(KEYS, 1, 6)
local seq, entry, is_kept, digest, verb, body, signature = unpack(ARGV, 1, 7)
local number, max_passing, max_kept = unpack(ARGV, 8, 10)
if redis.call('ZSCORE', commands, entry) then return 'ok' end
if is_taken(commands, seq) then return 'taken' end
if verb == 'relabel' and redis.call('LLEN', labels) ~= tonumber(number) - 1 then return 'labels' end
local kept = redis.call('ZCARD', commands) - redis.call('LLEN', passing)
if is_kept == '1' and kept >= tonumber(max_kept) then return 'full' end
{WHEN_FULL}
append(commands, outcomes, passing, seq, entry, '', is_kept, max_passing)
project(labels, offer, asked, seq, digest, verb, body, signature)
return 'ok'
"""

_REPLACE: Final = f"""{APPEND}{_PROJECT}
local outcomes, commands, passing, asked, labels, offer = unpack(KEYS, 1, 6)
local top = redis.call('ZREVRANGE', commands, 0, 0)[1] or ''
if top ~= ARGV[1] then return 0 end
for i = 1, #KEYS do redis.call('DEL', KEYS[i]) end
for i = 3, #ARGV, 8 do
  local seq, entry, outcome, is_kept, digest, verb, body, signature = unpack(ARGV, i, i + 7)
  append(commands, outcomes, passing, seq, entry, outcome, is_kept, ARGV[2])
  project(labels, offer, asked, seq, digest, verb, body, signature)
end
return 1
"""

_CLOSE: Final = f"""{NOTIFY}
local offer, history, notices = unpack(KEYS, 1, 3)
if redis.call('HGET', offer, 'seq') ~= ARGV[1] or redis.call('HEXISTS', offer, 'outcome') == 1 then return end
redis.call('HSET', offer, 'outcome', 1)
notify(history, notices, ARGV[2], ARGV[3])
"""


class OperatorStep(NamedTuple):
    """An operator's command about the rollout, which is logged when the plan is written: its verb and its version."""

    verb: str
    version: int
    source: str
    time_ms: int


class CommandLog:
    """The log of commands on one server."""

    def __init__(self, server: Server, ring: KeyRing) -> None:
        self._server = server
        self._ring = ring
        self._log = server.key(keys.COMMANDS)
        self._outcomes = server.key(keys.OUTCOMES)
        self._projections = [server.key(name) for name in (keys.ASKED, keys.LABELS, keys.OFFER)]

    @property
    def names(self) -> list[str]:
        """The Redis keys that `APPEND` writes."""
        return [self._log, self._outcomes, self._server.key(keys.PASSING)]

    def append(self, body: CommandBody, *, source: str = "", time_ms: int = 0) -> Command:
        """Adds a command at the end of the log; returns it when it is on disk. A permanent command is added only once.

        Raises LabelsChanged if a command about labels does not have the next number, CommandsFull, CannotSign.
        """
        self._ring.require_signer()
        log, outcomes, passing = self.names
        number = body.number if isinstance(body, LabelCommand) else 0
        while (command := self._find(body)) is None:
            command = Command.of(body, self.last_seq() + 1, source=source, time_ms=time_ms)
            args = (*self._script_arguments(command), number, MAX_PASSING, MAX_KEPT)
            reply = self._server.run(_ADD, (outcomes, log, passing, *self._projections), args).decode()
            if reply == "labels":
                raise LabelsChanged(f"somebody else has changed the labels: command {number} is not the next one")
            if reply == "full" and not self._remove_foreign():
                raise CommandsFull(f"the log has {MAX_KEPT} commands that are permanent, and cannot take more of them")
            if reply == "ok":
                break
        self._server.sync()
        return command

    def read(self, first: int = 1) -> list[Command]:
        """Returns the commands from number `first` on, in order. Entries without a valid signature are left out.

        Raises UnknownKey if an entry names a key that we do not have: this process may not have read a new key yet.
        """
        values = self._server.ask("ZRANGEBYSCORE", self._log, first, "+inf", "WITHSCORES")
        return [command for _, command in self._entries(values, is_strict=True) if command is not None]

    def outcomes(self, commands: Sequence[Command]) -> dict[int, CommandOutcome]:
        """Returns number -> outcome for the commands whose outcome is stored."""
        by_number: dict[int, CommandOutcome] = {}
        for start in range(0, len(commands), BATCH):
            numbers = [command.seq for command in commands[start : start + BATCH]]
            bodies = self._server.ask("HMGET", self._outcomes, *numbers)
            for body in filter(None, bodies):
                outcome = signed.decode(body, CommandOutcome, self._outcomes)
                by_number[outcome.seq] = outcome
        return by_number

    def outcome(self, command: Command) -> CommandOutcome | None:
        """Returns the outcome of a command; None while there is none.

        Raises CommandMoved if another command has its number now, because the log was restored.
        """
        reads = [
            ("ZRANGEBYSCORE", self._log, command.seq, command.seq, "WITHSCORES"),
            ("HGET", self._outcomes, command.seq),
        ]
        values, body = self._server.ask_many(reads)
        if all(stored != command for _, stored in self._entries(values)):
            raise CommandMoved(
                f"the log was restored, and number {command.seq} is another command now: `lifelong commands list` "
                "shows the new number and the outcome of yours"
            )
        if body is None:
            return None
        return signed.decode(body, CommandOutcome, self._outcomes)

    def entries(self, limit: int = MAX_KEPT + MAX_PASSING) -> list[CommandEntry]:
        """Returns the last `limit` commands with their outcomes, in order. Raises UnknownKey."""
        values = self._server.ask("ZREVRANGE", self._log, 0, limit - 1, "WITHSCORES")
        commands = [command for _, command in self._entries(values, is_strict=True) if command is not None]
        commands.reverse()
        outcomes = self.outcomes(commands)
        return [CommandEntry(command, outcomes.get(command.seq)) for command in commands]

    def note(self, outcomes: Sequence[CommandOutcome]) -> None:
        """Stores outcomes of commands."""
        for start in range(0, len(outcomes), BATCH):
            pairs: list[int | bytes] = []
            for outcome in outcomes[start : start + BATCH]:
                pairs += [outcome.seq, signed.encode(outcome)]
            self._server.ask("HSET", self._outcomes, *pairs)

    def close_offer(self, outcome: CommandOutcome, name: str) -> None:
        """Closes the open offer: adds its outcome to the history of versions, and lets the collector remove its blobs.
        Idempotent."""
        action: Literal["adopted", "refused"] = "refused" if outcome.state == "refused" else "adopted"
        detail = f"encoder {name}"
        if reasons := ", ".join(outcome.reasons):
            detail = f"{detail}: {reasons}"
        entry = VersionEntry(version=outcome.version, action=action, time_ms=outcome.time_ms, detail=detail)
        script_keys = [self._server.key(name) for name in (keys.OFFER, keys.HISTORY, keys.NOTICES)]
        self._server.run(_CLOSE, script_keys, (outcome.seq, signed.encode(entry), self._server.config.history))

    def open_offer(self) -> EncoderOffer | None:
        """Returns the last offer, or None if it is closed. Raises BadSignature, UnknownFormat."""
        key = self._server.key(keys.OFFER)
        if self._server.ask("HEXISTS", key, "outcome"):
            return None
        body = signed.fetch(self._server, key, self._ring)
        return None if body is None else signed.decode(body, EncoderOffer, key)

    def rewrite(self, change: Callable[[list[CommandEntry]], Sequence[CommandEntry]]) -> Sequence[CommandEntry]:
        """Replaces the log by `change(log)`, and its projections; returns the new log when it is on disk.

        `change` is called again if another process has added a command in between.
        """
        log, outcomes, passing = self.names
        while True:
            top = self._server.ask("ZREVRANGE", log, 0, 0)
            entries = change(self.entries())
            args: list[int | str | bytes] = [top[0] if top else b"", MAX_PASSING]
            for command, outcome in entries:
                seq, entry, is_kept, digest, verb, body, signature = self._script_arguments(command)
                is_closed = verb == EncoderOffer.VERB and outcome is not None and outcome.is_final
                encoded_outcome = b"" if outcome is None else signed.encode(outcome)
                # Without the verb, the script does not write a closed offer to the projections.
                projected_verb = "" if is_closed else verb
                args += [seq, entry, encoded_outcome, is_kept, digest, projected_verb, body, signature]
            if self._server.run(_REPLACE, (outcomes, log, passing, *self._projections), args):
                self._server.sync()
                return entries

    def step_arguments(self, step: OperatorStep | None) -> tuple[int | str | bytes, ...]:
        """Returns the arguments that `APPEND` takes for a step: its number, entry and outcome, and MAX_PASSING."""
        if step is None:
            return ("", "", "", MAX_PASSING)
        seq = self.last_seq() + 1
        body = {"version": step.version}
        command = Command(seq=seq, verb=step.verb, body=body, source=step.source, time_ms=step.time_ms)
        outcome = CommandOutcome(seq=seq, time_ms=step.time_ms, state="done", version=step.version)
        return (seq, self._sign(command), signed.encode(outcome), MAX_PASSING)

    def last_seq(self) -> int:
        """Returns the number of the last command; 0 if there is none."""
        top = self._server.ask("ZREVRANGE", self._log, 0, 0, "WITHSCORES")
        seq = float(top[1]) if top else 0
        if seq < MAX_SEQ:
            return int(seq)
        self._remove_foreign()
        return max((command.seq for command in self.read()), default=0)

    def _find(self, body: CommandBody) -> Command | None:
        """Returns the permanent command in the log with the same verb and body, or None."""
        if not body.IS_KEPT:
            return None
        wanted = Command.of(body, 0, source="", time_ms=0)
        seq = self._server.ask("HGET", self._projections[0], _request_digest(wanted))
        if seq is None:
            return None
        values = self._server.ask("ZRANGEBYSCORE", self._log, int(seq), int(seq), "WITHSCORES")
        commands = [command for _, command in self._entries(values)]
        for command in commands:
            if command and command.verb == body.VERB and command.body == wanted.body:
                return command
        return None

    def _script_arguments(self, command: Command) -> tuple[int | str | bytes, ...]:
        """Returns the arguments of the scripts for a command: its number, its entry and its projections."""
        digest = _request_digest(command) if command.is_kept else ""
        body = signature = b""
        if command.verb == LabelCommand.VERB:
            label = command.read(LabelCommand)
            body = signed.sign_entry(signed.encode(label), self._ring, self._server.key(keys.LABEL, label.number))
        elif command.verb == EncoderOffer.VERB:
            body = signed.encode(command.read(EncoderOffer))
            signature = self._ring.sign(body, self._projections[2]).encode()
        return (command.seq, self._sign(command), int(command.is_kept), digest, command.verb, body, signature)

    def _sign(self, command: Command) -> bytes:
        name = self._server.key(keys.COMMAND, command.seq)
        return signed.sign_entry(signed.encode(command), self._ring, name)

    def _entries(self, values: Sequence[bytes], *, is_strict: bool = False) -> Iterator[tuple[bytes, Command | None]]:
        """Yields each entry of a reply with its command; None if the entry has no valid signature.

        `values` has entries and their numbers alternately. If `is_strict`, raises UnknownKey for an entry that was
        signed with an unknown key.
        """
        for entry, score in zip(values[::2], values[1::2], strict=True):
            try:
                yield entry, verify_command(entry, score, self._ring, self._server.config.prefix)
            except (BadSignature, UnknownFormat) as error:
                if is_strict and isinstance(error, UnknownKey):
                    raise
                yield entry, None

    def _remove_foreign(self) -> int:
        """Removes entries without a valid signature; returns their number."""
        values = self._server.ask("ZRANGEBYSCORE", self._log, "-inf", "+inf", "WITHSCORES")
        foreign = [entry for entry, command in self._entries(values) if command is None]
        self._server.ask_many([("ZREM", self._log, entry) for entry in foreign])
        return len(foreign)


class LabelCommands:
    """The commands about labels on one server. Every process that translates labels reads them."""

    def __init__(self, server: Server, ring: KeyRing) -> None:
        self._server = server
        self._ring = ring
        self._list = server.key(keys.LABELS)

    def requested(self, first: int = 0) -> Sequence[LabelCommand]:
        """Returns the commands from index `first` on, in order. Raises BadSignature, UnknownFormat."""
        commands = list[LabelCommand]()
        for number, value in enumerate(self._server.ask("LRANGE", self._list, first, -1), start=first + 1):
            name = self._server.key(keys.LABEL, number)
            command = signed.decode(signed.verify_entry(value, self._ring, name), LabelCommand, name)
            if command.number != number:
                raise BadSignature(f"{name} was signed as number {command.number}")
            commands.append(command)
        return commands


def verify_command(entry: bytes, score: bytes, ring: KeyRing, prefix: str) -> Command:
    """Returns the command in an entry of the log under `prefix`. Raises BadSignature, UnknownFormat."""
    name = f"{prefix}{keys.COMMAND}:{score.decode()}"
    command = signed.decode(signed.verify_entry(entry, ring, name), Command, name)
    if command.seq != float(score):
        raise BadSignature(f"{name} was signed as number {command.seq}")
    return command


def append_entries(entries: Sequence[CommandEntry], others: Sequence[CommandEntry]) -> list[CommandEntry]:
    """Returns the log `entries`, followed by the commands in `others`, which get the next numbers.

    Commands about labels also get the next of their own numbers. A permanent command in `others` that is in `entries`
    already is left out.
    """
    result = [*entries]
    known = {_request_digest(command) for command, _ in entries if command.is_kept}
    num_labels = sum(command.verb == LabelCommand.VERB for command, _ in entries)
    numbers = count(max((command.seq for command, _ in entries), default=0) + 1)
    for command, outcome in others:
        if command.is_kept and _request_digest(command) in known:
            continue
        body = command.body
        if command.verb == LabelCommand.VERB:
            num_labels += 1
            body = body | {"number": num_labels}
        command = msgspec.structs.replace(command, seq=next(numbers), body=body)
        if outcome is not None:
            outcome = msgspec.structs.replace(outcome, seq=command.seq)
        result.append(CommandEntry(command, outcome))
    return result


def _request_digest(command: Command) -> str:
    """Returns a digest of the verb and the body of a command: equal requests have equal digests."""
    fields = msgspec.json.encode((command.verb, command.body), order="deterministic")
    return sha256(fields).hexdigest()[:32]
