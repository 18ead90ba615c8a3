"""What the labels of a version are, and what operators do to them: commands to the learner, and what became of each."""

from typing import Final, Literal, TypeAlias

from wire.records.record import Record
from wire.targets import Kind

LabelAction: TypeAlias = Literal["add", "rename", "merge", "split", "retire"]


class LabelSpace(Record, frozen=True, kw_only=True):
    """What the labels of a version are.

    Of sets of classes, `threshold` was taken off each output of the head. Scores lie between `low` and `high`.
    """

    kind: Kind
    threshold: float = 0.0
    low: float = 0.0
    high: float = 1.0


CLASSES: Final = LabelSpace(kind="class")


class LabelCommand(Record, frozen=True, kw_only=True):
    """What is to happen to `labels`, said by `source` at `time_ms`. It is the `number`th command, counted from 1.

    add       labels are in the set: one that was retired or renamed is a class of its own again
    rename    the class `labels[0]` is called `to[0]`, and a label of the old name means the new one
    merge     the classes `labels` become one, `to[0]`; a label of any of them means that one
    split     the class `labels[0]` loses texts to the classes `to`, which are learnt from the labels that come;
              `forgets` says whether what was learnt of it until then is taken out
    retire    the classes are never answered again, and their labels are refused
    """

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


class LabelOutcome(Record, frozen=True, kw_only=True):
    """What became of the command of this number, which the learner followed at `time_ms`.

    `samples` counts the samples that were renamed or taken out, by where they were. `version` is the first one that
    was made after it (0: not published yet).
    """

    number: int
    time_ms: int
    samples: dict[str, int] = {}
    version: int = 0
