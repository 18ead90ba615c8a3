"""What operators do to the set of labels and to data subjects: commands to the learner, and what became of each.

    LabelCommand --followed--> LabelChange, in the lineage of versions          --> LabelOutcome: samples, version
    the digest of a subject                                                     --> Erasure: samples, version

Both are kept in lists of the store (`wire/store/commands.py`), which say in what order they are followed.
"""

from typing import Literal, TypeAlias

from wire.records.record import Record

LabelAction: TypeAlias = Literal["add", "rename", "merge", "split", "retire"]


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


class Erasure(Record, frozen=True, kw_only=True):
    """The state of a request to erase everything about a subject, whose digest (`wire.keyring`) is `digest`.

    It is the learner's `number`th erasure, counted from 1. `removed` counts the removed samples by where they were.
    `version` is the first one without them (0: not published yet): the `erased` of its manifest is at least `number`.
    `is_purged` says that no older version and no older checkpoint is left.
    """

    digest: str
    number: int
    time_ms: int
    removed: dict[str, int] = {}
    version: int = 0
    is_purged: bool = False
