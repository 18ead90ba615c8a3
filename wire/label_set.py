"""The set of labels of a task: which class a label means now, and whether the label may be learnt. Pure.

    label --normal_form--> name --renamed or merged by a command?--> its present class --refusal--> "", or a reason
    LabelCommand, LabelCommand, ... --after--> LabelSet

The set is a function of the settings and of the operators' commands in their order. So all processes that have read the
same commands have the same set: the learner, which carries the commands out, and the replicas, the rollout and the
command line, which translate labels. If a late label has an old name, it means the class to which this name was last
changed.

A name means the class of that name, unless a command has changed it. The names in a command mean what they meant before
the command. A new meaning replaces the old one: after A was renamed to B, and then C to A, there is a class A again,
and labels with the name A are learnt as A.
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
from wire.kinds import DEFAULT, KINDS, LabelKind, class_names, fields_of, find_kind, name_hash
from wire.receipts import Receipts
from wire.records import Feedback, LabelCommand
from wire.sections import SECTION, parse_json_setting, require

MAX_LABELS = 65_536
"""Highest number of labels in the list, which is also the highest number of classes of a head."""

Bound: TypeAlias = Annotated[float, Ge(-1e12), Le(1e12)]
ScoreRange: TypeAlias = Annotated[tuple[Bound, Bound], BeforeValidator(parse_json_setting)]

WHITE_SPACE = re.compile(r"\s+")

Form: TypeAlias = Literal["nfc", "space", "case"]
Forms: TypeAlias = Annotated[tuple[Form, ...], BeforeValidator(parse_json_setting)]
Labels: TypeAlias = Annotated[tuple[str, ...], MaxLen(MAX_LABELS), BeforeValidator(parse_json_setting)]
ClassWeight: TypeAlias = Annotated[float, Gt(0), Le(1_000_000)]
ClassWeights: TypeAlias = Annotated[Mapping[str, ClassWeight], MaxLen(MAX_LABELS), BeforeValidator(parse_json_setting)]

RETIRED: Final = "retired"
NOT_LISTED: Final = "not_listed"
NEW: Final = "new_label"
WRONG_KIND: Final = "wrong_kind"
"""The reasons to refuse a label, in this order: its class was retired; it is not in the list; it is new and waits for
`lifelong labels add`; it is of another kind than `labels.kind`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """The set of labels (docs/labels.md). All processes need the same values."""

    __pydantic_config__ = SECTION

    kind: str = DEFAULT
    """The kind of an event's label: one `class`, a set of classes (`multilabel`), a number (`score`), or the name or
    import path of your own kind (docs/kinds.md). If the kind changes, nothing that was learnt before can be used."""
    range: ScoreRange = (0.0, 1.0)
    """Lowest and highest score. A score outside is moved to the nearer end. Errors are measured as shares of the
    range."""
    mode: Literal["open", "listed", "ask"] = "open"
    """`open`: a new label makes a new class. `listed`: a label that is not in `allow` is refused. `ask`: a new label
    stays in quarantine until `lifelong labels add`."""
    allow: Labels = ()
    """The labels of the list. `lifelong labels add` adds others."""
    normalise: Forms = ("nfc", "space")
    """How labels are normalised before they are compared: `nfc`, to Unicode's composed form; `space`, each run of
    white space to one blank, and none at the ends; `case`, to lower case."""
    class_weights: ClassWeights = field(default_factory=dict)
    """Weights of classes, as in `{"fraud": 100}`; other classes have the weight 1. A right answer of a heavier class is
    worth more: the class is predicted earlier, and counts more in the rollout (docs/labels.md#rare-classes)."""

    def __post_init__(self) -> None:
        is_exclusive = KINDS.get(self.kind).is_exclusive
        require(
            (
                self.mode == "listed" or self.mode == "ask" or not self.allow,
                "labels.allow needs labels.mode listed or ask; the mode is open",
            ),
            (self.low < self.high, "labels.range must be the lowest score and a higher one"),
            (all(map(str.strip, self.allow)), "labels.allow must not have a blank label"),
            (
                is_exclusive or not self.class_weights,
                f"labels.class_weights needs a kind with one class for each event; labels.kind is {self.kind}",
            ),
        )

    @property
    def low(self) -> float:
        """The lowest score that a label of kind `score` may have."""
        return self.range[0]

    @property
    def high(self) -> float:
        """The highest score that a label of kind `score` may have."""
        return self.range[1]

    def normal_form(self, label: str) -> str:
        """Returns the normal form of a label, under which it is learnt.

        >>> LabelConfig().normal_form("  lost   card "), LabelConfig(normalise=("case",)).normal_form("Lost Card")
        ('lost card', 'lost card')
        """
        if "nfc" in self.normalise:
            label = unicodedata.normalize("NFC", label)
        if "case" in self.normalise:
            label = label.casefold()
        return WHITE_SPACE.sub(" ", label).strip() if "space" in self.normalise else label


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The set of labels after `number` commands.

    - `meanings`: for each name that commands have changed, the name of the class that it means now.
    - `added`, `retired`: the names that commands have added to the list, and the classes that they have retired.
    """

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
        """Returns the set after these commands, in order."""
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
        # The new name becomes a class of its own first, because it may have had another meaning.
        if command.action in ("rename", "merge"):
            changed = [name for name in classes if name != to[0]]
            return after._with_own_meaning(to)._with_renamed(dict.fromkeys(changed, to[0]))
        if command.action == "retire":
            return replace(after, added=after.added.difference(classes), retired=after.retired.union(classes))
        if command.action == "add":
            return after._with_own_meaning(map(self.config.normal_form, command.labels))
        return after._with_own_meaning(to)

    def name_of(self, label: str) -> str:
        """Returns the form of a label that is learnt, with the present names of its classes.

        For example, it is the name of a class, a set of names, or the place of a score in the range.
        """
        kind = find_kind(label)
        renamed = kind.with_classes(label, [self._meaning(name) for name in kind.class_names(label)])
        return kind.learnt(renamed, self.config)

    def _meaning(self, name: str) -> str:
        name = self.config.normal_form(name)
        return self.meanings.get(name, name)

    @property
    def class_weights(self) -> dict[str, float]:
        """The weights of classes by their present names. The weight of any other class is 1."""
        return {self.name_of(name): weight for name, weight in self.config.class_weights.items()}

    def evidence_share(self, label: str) -> float:
        """Returns the share of a class's labels that count as evidence: the weight of the class, divided by the highest
        weight.

        The accuracy over the labels that count is then an unbiased estimate of the weighted accuracy over all labels.

        >>> shares = LabelSet(LabelConfig(class_weights={"fraud": 100.0}))
        >>> shares.evidence_share("fraud"), shares.evidence_share("no fraud")
        (1.0, 0.01)
        """
        weights = self.class_weights
        return weights.get(label, 1.0) / max([1.0, *weights.values()])

    def refusal(self, label: str, is_class: Callable[[str], bool]) -> str:
        """Returns the reason to refuse a label; "" if it may be learnt. `is_class` returns whether a class exists.

        If a label has several classes, it is the reason for the first class that is refused.
        """
        if find_kind(label) is not self.kind:
            return WRONG_KIND
        reasons = (self._class_refusal(self._meaning(name), is_class) for name in self.kind.class_names(label))
        return next(filter(None, reasons), "")

    def _class_refusal(self, name: str, is_class: Callable[[str], bool]) -> str:
        if name in self.retired:
            return RETIRED
        if self.config.mode == "open" or name in self.listed:
            return ""
        if self.config.mode == "listed":
            return NOT_LISTED
        return "" if is_class(name) else NEW

    def explain_refusal(self, reason: str, label: str, known: Iterable[str] = ()) -> str:
        """Returns a sentence that explains the `reason` to refuse a label, with the fix.

        `known` are existing classes, which the sentence may suggest besides the labels of the list.
        """
        if reason == WRONG_KIND:
            return f"{find_kind(label).noun} was sent, and labels.kind is {self.config.kind}: send {self.kind.how_sent}"
        classes = {*known}
        names = [self._meaning(name) for name in class_names(label)]
        refused = [name for name in names if self._class_refusal(name, classes.__contains__) == reason]
        name = refused[0] if refused else label
        if reason == RETIRED:
            return f"the label {name!r} was retired; `lifelong labels add` takes it back"
        if reason == NEW:
            return f"the label {name!r} is new, and labels.mode is ask: `lifelong labels add` accepts it"
        hint = did_you_mean(name, self.listed.union(classes) - self.retired)
        return f"the label {name!r} is not in labels.allow{hint} (`lifelong labels add` accepts it)"

    @property
    def hashes(self) -> dict[int, int]:
        """The hash of the present meaning of each changed name, by the hash of the name."""
        return {name_hash(name): name_hash(meaning) for name, meaning in self.meanings.items()}

    @property
    def listed(self) -> frozenset[str]:
        """The labels of the list: the labels in the settings, by their present names, and the added ones."""
        return self.added.union(map(self.name_of, self.config.allow)) - self.retired

    def _with_own_meaning(self, labels: Iterable[str]) -> "LabelSet":
        """Returns the set in which each of these names means the class of that name, and may be learnt."""
        names = frozenset(labels)
        meanings = {name: meaning for name, meaning in self.meanings.items() if name not in names}
        return replace(self, meanings=meanings, added=self.added | names, retired=self.retired - names)

    def _with_renamed(self, new: Mapping[str, str]) -> "LabelSet":
        """Returns the set after renaming classes. `new` maps old names to new names. Names that meant an old class mean
        the new one."""
        meanings = {name: new.get(meaning, meaning) for name, meaning in self.meanings.items()} | dict(new)
        # A name that means itself again needs no entry.
        meanings = {name: meaning for name, meaning in meanings.items() if name != meaning}
        return replace(self, meanings=meanings, added=self.added.difference(new), retired=self.retired.difference(new))


def check_label(label: str, labels: LabelSet, *, max_chars: int) -> None:
    """Raises BadMessage if a label can never be learnt, because it is too long, of another kind, or refused by the set.

    A new label under labels.mode ask is accepted, because it waits for an operator.
    """
    longest = max(map(len, class_names(label)), default=0)
    if longest > max_chars:
        raise BadMessage("oversized", f"a label has {longest} characters, at most {max_chars} are learnt")
    if reason := labels.refusal(label, lambda name: True):
        raise BadMessage(reason, labels.explain_refusal(reason, label))


def with_label(feedback: Feedback, label: str) -> Feedback:
    """Returns the feedback with its label replaced by `label`."""
    return msgspec.structs.replace(feedback, **fields_of(label))


def did_you_mean(label: str, known: Iterable[str]) -> str:
    """Returns a question to append to a sentence about an unknown label; "" if no `known` label is similar.

    >>> did_you_mean("refnud", ["delivery", "refund"])
    "; did you mean 'refund'?"
    """
    near = get_close_matches(label, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def find_refusal(
    feedback: Feedback, *, receipts: Receipts | None, max_chars: int, is_required: bool, max_age_ms: float
) -> str:
    """Returns the reason to refuse a label because of its names or its receipt; "" if there is none.

    The set of labels and the event are not checked. A name may have `max_chars` characters. `is_required` and
    `max_age_ms` are passed to `receipts`; if `receipts` is None, receipts are not checked.
    """
    names = class_names(feedback.label_string)
    if not all(map(str.strip, names)):
        return "blank"
    if any(len(name) > max_chars for name in names):
        return "too_long"
    if receipts is None:
        return ""
    return receipts.refusal(feedback, is_required=is_required, max_age_ms=max_age_ms)
