"""The commands of operators, in one signed log: their bodies, and the outcome of each.

    a body, by its verb --wire/store/commands.py: numbered, signed--> Command --learner, rollout--> CommandOutcome

    Erase, LabelCommand, EncoderOffer (weights.py), Repair    the learner carries them out
    steps of the rollout                                      done when they and their outcome are in the log

Each verb has a body here and a handler in `learner/release/handlers.py`. No other record lists the verbs.
"""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias, TypeVar

import msgspec

from wire.records.record import Record

LabelAction: TypeAlias = Literal["add", "rename", "merge", "split", "retire"]

AnyBody = TypeVar("AnyBody", bound="CommandBody")


class CommandBody(Record, frozen=True, kw_only=True):
    """The parameters of a command. There is one subclass for each verb.

    `IS_KEPT` means that the effect of the command is part of the learner's state. Such a command is never removed from
    the log. The learner also applies it to every state that does not include it yet, such as a new state or an older
    checkpoint. All other commands are carried out once.
    """

    VERB: ClassVar[str]
    IS_KEPT: ClassVar[bool] = False


class Command(Record, frozen=True, kw_only=True):
    """An entry of the log: the command that `source` gave at `time_ms`.

    - `seq`: the number of the command. Numbers begin at 1 and increase.
    - `body`: the fields of the verb's `CommandBody`, as JSON. So a new verb does not change this record.
    - `is_kept`: see `CommandBody`.
    """

    seq: int
    verb: str
    body: dict[str, Any]
    is_kept: bool = False
    source: str = ""
    time_ms: int = 0

    @classmethod
    def of(cls, body: CommandBody, seq: int, *, source: str, time_ms: int) -> Self:
        """Returns the log entry of `body`."""
        fields = msgspec.json.decode(msgspec.json.encode(body))
        return cls(seq=seq, verb=body.VERB, body=fields, is_kept=body.IS_KEPT, source=source, time_ms=time_ms)

    def read(self, body: type[AnyBody]) -> AnyBody:
        """Returns the body as a record of type `body`. Raises msgspec.ValidationError if it does not have that type."""
        return msgspec.convert(self.body, body)


class CommandOutcome(Record, frozen=True, kw_only=True):
    """The outcome of the command `seq`, at `time_ms`.

    - `open`: the command waits for something, such as a slow round.
    - `applied`: the learner's state includes the command, but no published version does yet.
    - `published`: `version` is the first version that includes the command.
    - `purged`: all versions and checkpoints from before the command have been deleted. `numbers` is empty then.
    - `refused`: the command has no effect, for these `reasons`.
    - `done`: the command has its effect, and needs no new version. For a step of the rollout, `version` is the version
      that it was about.

    `numbers` has counts of the effects by name: removed samples by where they were, repaired blobs, or the holdout
    samples on which an offer was compared.
    """

    seq: int
    time_ms: int
    state: Literal["open", "applied", "published", "purged", "refused", "done"]
    version: int = 0
    reasons: tuple[str, ...] = ()
    numbers: dict[str, int] = {}

    @property
    def is_final(self) -> bool:
        """Whether an operator need not wait for a later state."""
        return self.state not in ("open", "applied")


class CommandEntry(NamedTuple):
    """A command, and its outcome (None: there is none yet)."""

    command: Command
    outcome: CommandOutcome | None = None


class Erase(CommandBody, frozen=True, kw_only=True):
    """Erase everything about the subject with this `digest` (`wire.keyring`), and never learn about it again."""

    VERB: ClassVar[str] = "erase"
    IS_KEPT: ClassVar[bool] = True

    digest: str

    @classmethod
    def digests(cls, commands: Iterable[Command]) -> Iterator[str]:
        """Yields the digests of the subjects of the commands that erase."""
        for command in commands:
            if command.verb == cls.VERB:
                yield command.read(cls).digest


class LabelCommand(CommandBody, frozen=True, kw_only=True):
    """Change the set of labels, as `source` asked at `time_ms`. Commands about labels are numbered from 1 (`number`).

    - `add`: `labels` are added to the set. A label that was retired or renamed is a class of its own again.
    - `rename`: the class `labels[0]` is now called `to[0]`. A label with the old name means the new one.
    - `merge`: the classes `labels` become one class, `to[0]`. A label with any of their names means that class.
    - `split`: some texts of the class `labels[0]` now belong to the classes `to`, which are learnt from new labels.
      `forgets` says whether the previous samples of the class are removed from the model.
    - `retire`: the classes `labels` are never answered again, and their labels are refused.
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
    """A command about labels that was applied when exactly the records below `offsets` had been processed."""

    command: LabelCommand
    offsets: dict[str, int] = {}


class Repair(CommandBody, frozen=True, kw_only=True):
    """Compute these blobs again, compare them with the stored ones, and write those that are damaged or missing."""

    VERB: ClassVar[str] = "repair"

    digests: tuple[str, ...]
