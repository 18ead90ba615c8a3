"""The set of labels: how a label is written, what it is called now, and whether it may be learnt. Pure.

    label --normal form--> its name --renamed, merged?--> the class that it means --refusal--> "", or a reason
          --of another kind than the settings say?--> refusal        what it names is said by its kind (`wire.kinds`)
    LabelCommand, LabelCommand, ... --after--> LabelSet

The set is a function of the settings and of the commands in their order. So everybody who has read the same commands
has the same set: the learner, which follows them, and the replicas, the rollout and the command line, which translate
labels by it. A label that comes late, under a name of long ago, means what that name was changed to last.

A name means itself where nothing was done to it, and a command is about what its names mean then. A new meaning
replaces the old one: whoever renames A to B, and then C to A, has a class A whose labels are learnt as A again.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import reduce
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from annotated_types import Ge, Gt, Le, MaxLen
from pydantic import BeforeValidator

from wire.errors import BadMessage
from wire.kinds import DEFAULT, KINDS, LabelKind, class_names, fields_of, kind_of, name_hash
from wire.receipts import Receipts
from wire.records import Feedback, LabelCommand
from wire.sections import SECTION, decoded, require

MAX_LABELS = 65_536
"""Most labels of the list: as many as a head may have classes."""

Bound: TypeAlias = Annotated[float, Ge(-1e12), Le(1e12)]
ScoreRange: TypeAlias = Annotated[tuple[Bound, Bound], BeforeValidator(decoded)]

WhiteSpace = re.compile(r"\s+")


Form: TypeAlias = Literal["nfc", "space", "case"]
Forms: TypeAlias = Annotated[tuple[Form, ...], BeforeValidator(decoded)]
Labels: TypeAlias = Annotated[tuple[str, ...], MaxLen(MAX_LABELS), BeforeValidator(decoded)]
ClassWeight: TypeAlias = Annotated[float, Gt(0), Le(1_000_000)]
ClassWeights: TypeAlias = Annotated[Mapping[str, ClassWeight], MaxLen(MAX_LABELS), BeforeValidator(decoded)]

RETIRED: Final = "retired"
NOT_LISTED: Final = "not_listed"
NEW: Final = "new_label"
WRONG_KIND: Final = "wrong_kind"
"""Why a label is refused: its class was retired; it is outside the list; it waits for `lifelong labels add`; it is one
class where the settings ask for sets of them, or a set where they ask for one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """The set of labels (docs/labels.md). All processes need the same values."""

    __pydantic_config__ = SECTION

    kind: str = DEFAULT
    """What the label of an event is: one `class`, a set of classes (`multilabel`), a number (`score`), or the name or
    the import path of a kind of yours, see docs/kinds.md. What was learnt under one kind is of no use under another."""
    range: ScoreRange = (0.0, 1.0)
    """Lowest and highest score: one beyond them counts as the nearer one. Errors are measured as shares of the
    range."""
    mode: Literal["open", "listed", "ask"] = "open"
    """`open`: a label that nobody has used makes a class. `listed`: one that is not in `allow` is refused. `ask`: it
    lies in quarantine until `lifelong labels add`."""
    allow: Labels = ()
    """The labels of the list, besides those that `lifelong labels add` adds."""
    normalise: Forms = ("nfc", "space")
    """What makes two labels one: `nfc`, the composed form of Unicode; `space`, runs of blanks as one, and none at the
    ends; `case`, small letters."""
    class_weights: ClassWeights = field(default_factory=dict)
    """How much more a right label of a class is worth than one of another class, which is 1, as `{"fraud": 100}`: such
    a class is named earlier, and counts so much more in the rollout (docs/labels.md#rare-classes)."""

    def __post_init__(self) -> None:
        is_exclusive = KINDS.get(self.kind).is_exclusive
        require(
            (
                self.mode == "listed" or self.mode == "ask" or not self.allow,
                "labels.allow is used under labels.mode listed or ask; the mode is open",
            ),
            (self.low < self.high, "labels.range must be the lowest score and a higher one"),
            (all(map(str.strip, self.allow)), "labels.allow must not have a blank label"),
            (
                is_exclusive or not self.class_weights,
                f"labels.class_weights is used where an event has one class; labels.kind is {self.kind}",
            ),
        )

    @property
    def low(self) -> float:
        """The lowest score."""
        return self.range[0]

    @property
    def high(self) -> float:
        """The highest score."""
        return self.range[1]

    def normal_form(self, label: str) -> str:
        """Returns a label as it is learnt.

        >>> LabelConfig().normal_form("  lost   card "), LabelConfig(normalise=("case",)).normal_form("Lost Card")
        ('lost card', 'lost card')
        """
        if "nfc" in self.normalise:
            label = unicodedata.normalize("NFC", label)
        if "case" in self.normalise:
            label = label.casefold()
        return WhiteSpace.sub(" ", label).strip() if "space" in self.normalise else label


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The set after `number` commands. `meanings` has what each name that was changed means now."""

    config: LabelConfig = field(default_factory=LabelConfig)
    number: int = 0
    meanings: Mapping[str, str] = field(default_factory=dict)
    added: frozenset[str] = frozenset()
    retired: frozenset[str] = frozenset()
    kind: LabelKind = field(init=False, compare=False, repr=False)
    """The kind of the labels."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", KINDS.get(self.config.kind))

    @classmethod
    def of(cls, config: LabelConfig, commands: Iterable[LabelCommand]) -> "LabelSet":
        return cls(config).after_all(commands)

    def after_all(self, commands: Iterable[LabelCommand]) -> "LabelSet":
        """Returns the set after these commands, in their order."""
        return reduce(LabelSet.after, commands, self)

    def after(self, command: LabelCommand) -> "LabelSet":
        """Returns the set after one more command.

        >>> renamed = LabelCommand(number=1, action="rename", labels=("bill",), to=("invoice",))
        >>> LabelSet().after(renamed).name_of("bill")
        'invoice'
        """
        classes = [self.name_of(label) for label in command.labels]
        to = [self.config.normal_form(label) for label in command.to]
        after = replace(self, number=command.number)
        if command.action in ("rename", "merge"):
            return after._with(to)._renamed(dict.fromkeys([name for name in classes if name != to[0]], to[0]))
        if command.action == "retire":
            return replace(after, added=after.added.difference(classes), retired=after.retired.union(classes))
        return after._with(map(self.config.normal_form, command.labels) if command.action == "add" else to)

    def name_of(self, label: str) -> str:
        """Returns a label by the names that its classes have now, and as it is learnt: the name of a class, a set of
        them, the place of a score in the range."""
        kind = kind_of(label)
        renamed = kind.with_classes(label, [self._meaning_of(name) for name in kind.class_names(label)])
        return kind.learnt(renamed, self.config)

    def _meaning_of(self, name: str) -> str:
        name = self.config.normal_form(name)
        return self.meanings.get(name, name)

    @property
    def class_weights(self) -> dict[str, float]:
        """The weights of the classes, by the names that they have now; that of any other class is 1."""
        return {self.name_of(name): weight for name, weight in self.config.class_weights.items()}

    def evidence_share(self, label: str) -> float:
        """Returns the share of the labels of a class that count as evidence: its weight over the highest one.

        So the share of right answers among those that count is that of all, each label with its weight.

        >>> shares = LabelSet(LabelConfig(class_weights={"fraud": 100.0}))
        >>> shares.evidence_share("fraud"), shares.evidence_share("no fraud")
        (1.0, 0.01)
        """
        weights = self.class_weights
        return weights.get(label, 1.0) / max([1.0, *weights.values()])

    def refusal(self, label: str, is_class: Callable[[str], bool]) -> str:
        """Returns why a label is not learnt, "" where it is. `is_class` says whether a class of this name is known.

        Of a set of labels, it is that of the first one that is not learnt.
        """
        if kind_of(label) is not self.kind:
            return WRONG_KIND
        reasons = (self._refusal_of_name(self._meaning_of(name), is_class) for name in self.kind.class_names(label))
        return next(filter(None, reasons), "")

    def _refusal_of_name(self, name: str, is_class: Callable[[str], bool]) -> str:
        if name in self.retired:
            return RETIRED
        if self.config.mode == "open" or name in self.listed:
            return ""
        if self.config.mode == "listed":
            return NOT_LISTED
        return "" if is_class(name) else NEW

    def why(self, reason: str, label: str, known: Iterable[str] = ()) -> str:
        """Returns the sentence of a refusal, with the fix. `known` are classes that may be meant besides the list."""
        if reason == WRONG_KIND:
            return f"{kind_of(label).noun} came, and labels.kind is {self.config.kind}: send {self.kind.how_sent}"
        classes = {*known}
        names = [self._meaning_of(name) for name in class_names(label)]
        name = next((each for each in names if self._refusal_of_name(each, classes.__contains__) == reason), label)
        if reason == RETIRED:
            return f"the label {name!r} was retired; `lifelong labels add` takes it back"
        if reason == NEW:
            return f"the label {name!r} is new, and labels.mode is ask: `lifelong labels add` takes it"
        meant = did_you_mean(name, self.listed.union(classes) - self.retired)
        return f"the label {name!r} is not in labels.allow{meant} (`lifelong labels add` takes it)"

    @property
    def hashes(self) -> dict[int, int]:
        """The hash of what each name that was changed means now, by the hash of that name."""
        return {name_hash(name): name_hash(meaning) for name, meaning in self.meanings.items()}

    @property
    def listed(self) -> frozenset[str]:
        """The labels of the list: those of the settings by their names of now, and those that were added."""
        return self.added.union(map(self.name_of, self.config.allow)) - self.retired

    def _with(self, labels: Iterable[str]) -> "LabelSet":
        """Returns the set in which each of these labels means itself, and may be learnt."""
        names = frozenset(labels)
        meanings = {name: meaning for name, meaning in self.meanings.items() if name not in names}
        return replace(self, meanings=meanings, added=self.added | names, retired=self.retired - names)

    def _renamed(self, new: Mapping[str, str]) -> "LabelSet":
        """Returns the set in which each of these names, and all that means it, means what `new` says."""
        meanings = {name: new.get(meaning, meaning) for name, meaning in self.meanings.items()} | dict(new)
        meanings = {name: meaning for name, meaning in meanings.items() if name != meaning}
        return replace(self, meanings=meanings, added=self.added.difference(new), retired=self.retired.difference(new))


def check_label(label: str, labels: LabelSet, *, max_chars: int) -> None:
    """Raises BadMessage where a label is not learnt, whoever sends it: it is too long, of another kind, or not in the
    set. Under labels.mode ask a new one waits for an operator, and so is none of these."""
    longest = max(map(len, class_names(label)), default=0)
    if longest > max_chars:
        at_most = f"at most {max_chars} are learnt"
        raise BadMessage("oversized", f"a label has {longest} characters, {at_most}")
    if reason := labels.refusal(label, lambda name: True):
        raise BadMessage(reason, labels.why(reason, label))


def with_label(feedback: Feedback, label: str) -> Feedback:
    """Returns the feedback with what it says, as one string, in the place of what it said."""
    return msgspec.structs.replace(feedback, **fields_of(label))


def did_you_mean(label: str, known: Iterable[str]) -> str:
    """Returns the question behind a sentence about a label that is not `known`; "" where none is like it.

    >>> did_you_mean("refnud", ["delivery", "refund"])
    "; did you mean 'refund'?"
    """
    near = get_close_matches(label, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def refusal_of(
    feedback: Feedback, *, receipts: Receipts | None, max_chars: int, is_required: bool, max_age_ms: float
) -> str:
    """Returns why a label is refused, whatever it is the label of and whatever the set of labels is; "" if it is not.

    A name may have `max_chars` characters; `is_required` and `max_age_ms` are of receipts. Without `receipts` no
    signature counts.
    """
    names = class_names(feedback.said)
    if not all(map(str.strip, names)):
        return "blank"
    if any(len(name) > max_chars for name in names):
        return "too_long"
    if receipts is None:
        return ""
    return receipts.refusal(feedback, is_required=is_required, max_age_ms=max_age_ms)
