"""What operators ask for: commands in one signed log, their bodies, and what became of each.

    a body, by its verb --wire/store/commands.py: numbered, signed--> Command --learner, rollout--> CommandOutcome

    Erase, LabelCommand, EncoderOffer (weights.py), Repair    the learner follows them
    steps of the rollout                                      done when they are in the log, and so is their outcome

A verb is a body here and a handler in `learner/release/handlers.py`; no other record knows which verbs there are.
"""

from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias, TypeVar

import msgspec

from wire.records.record import Record

LabelAction: TypeAlias = Literal["add", "rename", "merge", "split", "retire"]

AnyBody = TypeVar("AnyBody", bound="CommandBody")


class CommandBody(Record, frozen=True, kw_only=True):
    """What a command asks for.

    `IS_KEPT` says that its effect is a part of what the learner knows. Such a command is never removed from the log,
    and is followed in every state of the learner that lacks it: after a start from nothing, or a way back to an older
    model. Others are followed once.
    """

    VERB: ClassVar[str]
    IS_KEPT: ClassVar[bool] = False


class Command(Record, frozen=True, kw_only=True):
    """An entry of the log: what `source` asked for at `time_ms`. Numbers (`seq`) begin at 1, and grow.

    `body` has the fields of the verb's own record, so a new verb changes no record here. `is_kept`: see `CommandBody`.
    """

    seq: int
    verb: str
    body: dict[str, Any]
    is_kept: bool = False
    source: str = ""
    time_ms: int = 0

    @classmethod
    def of(cls, body: CommandBody, seq: int, *, source: str, time_ms: int) -> Self:
        """Returns the command that asks for `body`."""
        fields = msgspec.json.decode(msgspec.json.encode(body))
        return cls(seq=seq, verb=body.VERB, body=fields, is_kept=body.IS_KEPT, source=source, time_ms=time_ms)

    def read(self, body: type[AnyBody]) -> AnyBody:
        """Returns the body as a record. Raises msgspec.ValidationError where it is none of this type."""
        return msgspec.convert(self.body, body)


class CommandOutcome(Record, frozen=True, kw_only=True):
    """What became of the command `seq`, at `time_ms`.

    open        it waits for something, such as a slow round
    applied     the learner knows it, and has not published a version that does
    published   `version` is the first version that knows it
    purged      no older version and no older checkpoint is left; `numbers` are gone, too
    refused     it has no effect, for these `reasons`
    done        it has its effect, for which no version is needed; a step of the rollout was about `version`

    `numbers` count what was done: samples by where they were, repaired blobs, the holdout samples of an offer.
    """

    seq: int
    time_ms: int
    state: Literal["open", "applied", "published", "purged", "refused", "done"]
    version: int = 0
    reasons: tuple[str, ...] = ()
    numbers: dict[str, int] = {}

    @property
    def is_final(self) -> bool:
        """Whether nothing that an operator waits for can follow."""
        return self.state not in ("open", "applied")


class CommandEntry(NamedTuple):
    """A command with what became of it; None while nobody has said."""

    command: Command
    outcome: CommandOutcome | None = None


class Erase(CommandBody, frozen=True, kw_only=True):
    """Erase everything about a subject, whose digest (`wire.keyring`) is `digest`, and never learn about it again."""

    VERB: ClassVar[str] = "erase"
    IS_KEPT: ClassVar[bool] = True

    digest: str


class LabelCommand(CommandBody, frozen=True, kw_only=True):
    """What is to happen to `labels`, said by `source` at `time_ms`. It is the `number`th about labels, counted from 1.

    add       labels are in the set: one that was retired or renamed is a class of its own again
    rename    the class `labels[0]` is called `to[0]`, and a label of the old name means the new one
    merge     the classes `labels` become one, `to[0]`; a label of any of them means that one
    split     the class `labels[0]` loses texts to the classes `to`, which are learnt from the labels that come;
              `forgets` says whether what was learnt of it until then is taken out
    retire    the classes are never answered again, and their labels are refused
    """

    VERB: ClassVar[str] = "relabel"
    IS_KEPT: ClassVar[bool] = True

    number: int
    action: LabelAction
    labels: tuple[str, ...]
    to: tuple[str, ...] = ()
    forgets: bool = False
    source: str = ""
    time_ms: int = 0


class LabelChange(Record, frozen=True, kw_only=True):
    """A command that was followed. Exactly the records below `offsets` had their effect before."""

    command: LabelCommand
    offsets: dict[str, int] = {}


class Repair(CommandBody, frozen=True, kw_only=True):
    """Compare these blobs with what the learner makes of them again, and write those that are damaged."""

    VERB: ClassVar[str] = "repair"

    digests: tuple[str, ...]
