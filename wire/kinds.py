"""Kinds of labels: what the label of an event is, one class, a set of them, a number, or something else. Pure.

    record --claim--> its kind, the value of that kind's field --read--> a label, one string --write--> value
    label --class_names, row_names, renamed, render, fingerprint--> what the core needs of it

What a label says is one string everywhere between two topics: it is compared, hashed, remembered, learnt and signed as
that. Only its kind looks into it. The string of the kind that has no mark is the name of a class; that of any other
kind begins with a mark, a control character from U+001C on, which no name has. So the kind of a string is known by its
mark, as that of a record is by its field.

Every verdict about versions counts answers that are right (McNemar's test, confidence sequences, drift). An answer may
be partly right: a kind says how well it agrees with the label of its event, in [0, 1]. So it counts as right if a
number that is drawn for the event, uniform in [0, 1), is below that (randomised rounding, Raghavan and Thompson 1987).
The expectation of the share of right answers is then the mean agreement, so that every bound on that share holds for
it, and a few counts remain the whole evidence. All versions have the same draw: two of them differ on an event with the
probability by which their agreements differ, and no other rounding makes them differ less.

An implementation has two halves: this one, which loads no torch, and its tensors (`model.kinds`), which replicas and
the learner import by the path that is its `tensors`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import mmh3

from wire.errors import BadMessage
from wire.plugins import PluginError, Registry, problem_of_examples

MARKS: Final = ("\x1c", "\x1d", "\x1e", "\x1f")
"""The characters that a mark may begin with. No name of a class has one of them."""

TAG: Final = "\x1e"
"""The mark of a kind that has no control character of its own stands between two of these: see `mark_of`."""

DEFAULT: Final = "class"
"""The kind of labels where nothing says another one: what is stored of labels of this kind does not name it."""

LABEL_FIELDS: Final = ("labels", "value", "target")
"""The fields of a label, besides `label`, of which one says what the label of the event is."""

ANSWER_FIELDS: Final = ("labels", "value", "output")
"""The same of an answer. `target` and `output` are those of all kinds without a field of their own."""

DRAW_SEED: Final = 0x6472_6177

MAX_WORDS: Final = 12
"""Most words of a fingerprint, which are most classes of a set that a version names: more would not fit a receipt."""

Fingerprint: TypeAlias = int | tuple[int, ...]
"""What a version says of an event, in its receipt: one word of 32 bits, or at most MAX_WORDS. 0: it knew nothing."""


class Range(Protocol):
    """What the settings of labels say of numbers."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class Card(NamedTuple):
    """What an exported version says of its answers: the expression of Python that makes scores of its `logits`, the
    statement that returns what it names for `texts`, and a line about it, "" if its classes say enough."""

    scores: str
    predict: str
    answers: str = ""


class LabelKind(Protocol):
    """A kind of labels. Each method is a function of its arguments alone, and may be called from any thread.

    `name` is the value of `labels.kind`, unless that is an import path. `field` is the field of records that has it:
    `label`, `labels`, `value`, or `target`, of all kinds without a field of their own. `noun` and `how_sent` say what
    a label is called, and how it is sent. `marks` are what its strings begin with: "" for the one kind without a mark,
    else one of MARKS or `mark_of(name)`. `tensors` is the import path of its other half.

    `is_exclusive`: each event has exactly one class, so that one class may be given in the place of another, change its
    meaning, be learnt from the newest labels, or make room. `has_classes`: labels name classes, which people may
    rename, merge or retire, and which their texts have a mean of. `trains_encoder`: slow rounds learn from them.

    `examples` are some labels, as they are learnt: what the kind makes of them is checked when it is first asked for.
    """

    @property
    def name(self) -> str: ...
    @property
    def field(self) -> str: ...
    @property
    def noun(self) -> str: ...
    @property
    def how_sent(self) -> str: ...
    @property
    def marks(self) -> tuple[str, ...]: ...
    @property
    def tensors(self) -> str: ...
    @property
    def is_exclusive(self) -> bool: ...
    @property
    def has_classes(self) -> bool: ...
    @property
    def trains_encoder(self) -> bool: ...
    @property
    def examples(self) -> tuple[str, ...]: ...

    def problem(self, value: Any) -> str:
        """Returns what is wrong with the value of the field of a record; "" if nothing is."""

    def read(self, value: Any) -> str:
        """Returns the label that the value of the field of a record says, which has no problem."""

    def write(self, label: str) -> Any:
        """Returns the value of the field of a record that says it: `read(write(label))` is the label as it was sent."""

    def from_value(self, value: Any) -> Any:
        """Returns the value of the field that a value of JSON means, of a message of others; None if that says none.

        Raises BadMessage, whose detail goes on after what the value is: "a score is a number".
        """

    def from_text(self, text: str) -> Any:
        """Returns the value of the field that a person means by one line. Raises BadMessage as `from_value` does."""

    def render(self, label: str) -> str:
        """Returns a label for people."""

    def class_names(self, label: str) -> tuple[str, ...]:
        """Returns the names of the classes that a label has; () if its kind has none."""

    def row_names(self, label: str) -> tuple[str, ...]:
        """Returns the names of the rows of a head that a label is learnt by: its classes, or rows of the kind, which
        begin with one of its marks."""

    def with_classes(self, label: str, names: Sequence[str]) -> str:
        """Returns a label with these classes in the place of its own; the label itself if its kind has none."""

    def learnt(self, label: str, space: Range) -> str:
        """Returns a label as it is learnt: a number becomes its place in the range of the settings."""

    def fingerprint(self, label: str) -> Fingerprint:
        """Returns what stands for a label, as it is learnt, in a receipt; never 0."""

    def agreement(self, predicted: Fingerprint, labelled: Fingerprint) -> float:
        """Returns how well an answer agrees with a label, in [0, 1]: 1 if both are the same."""

    def card(self, space: Range) -> Card:
        """Returns what an exported version says of its answers."""


class _Kinds(Registry[LabelKind]):
    """The registry of the door, which finds a kind by its field and by its mark as well."""

    def __init__(self) -> None:
        super().__init__("kinds", LabelKind)
        self._by_field: dict[str, LabelKind] = {}
        self._by_mark: dict[str, LabelKind] = {}

    def register(self, plugin: LabelKind) -> LabelKind:
        kind = super().register(plugin)
        if kind.field in (*LABEL_FIELDS[:-1], "label"):
            self._by_field[kind.field] = kind
        self._by_mark |= dict.fromkeys(kind.marks, kind)
        return kind

    def problem_beside(self, plugin: LabelKind, others: Iterable[LabelKind]) -> str:
        if problem := next(_problems_of(plugin), ""):
            return problem
        for other in others:
            if plugin.field == other.field != "target":
                return f"its field `{plugin.field}` is that of the kind {other.name!r}: use `target`"
            if marks := {*plugin.marks} & {*other.marks}:
                return f"its mark {min(marks)!r} is one of the kind {other.name!r}: use mark_of({plugin.name!r})"
        return problem_of_examples(plugin, "label", _broken_laws)

    def of_field(self, field: str) -> LabelKind:
        """Returns the kind that has a field of its own."""
        return self._by_field.get(field) or self._built_in(self._by_field, field)

    def of_mark(self, mark: str) -> LabelKind:
        """Returns the kind of the labels that begin with a mark. Raises PluginError if it was not asked for here."""
        return self._by_mark.get(mark) or self._built_in(self._by_mark, mark)

    def of_tag(self, value: Any) -> LabelKind:
        """Returns the kind that a `target` names. Raises BadMessage unless the settings of this process have it: no
        message may make it import anything."""
        name = value.get("kind")
        kind = self._by_mark.get(mark_of(name)) if isinstance(name, str) else None
        if kind is None:
            raise BadMessage("wrong_schema", f"`target` has the `kind` {name!r}, which no labels.kind here is")
        return kind

    def _built_in(self, known: Mapping[str, LabelKind], key: str) -> LabelKind:
        self.all()
        if key not in known:
            raise PluginError(f"a label of the kind {key.strip(TAG)!r} is here, and no labels.kind is: set it")
        return known[key]


KINDS: Final = _Kinds()
"""The kinds of labels."""


class _Unit(NamedTuple):
    low: float = 0.0
    high: float = 1.0


UNIT_RANGE: Final = _Unit()
"""The range from 0 to 1."""


def _problems_of(kind: LabelKind) -> Iterator[str]:
    """Yields what is wrong with what a kind says of itself."""
    own = mark_of(kind.name)
    if kind.field not in ("label", *LABEL_FIELDS):
        yield f"its field is `{kind.field}`: use `target`"
    for mark in kind.marks:
        if mark not in ("", *MARKS, own) or mark == TAG:
            yield f"its mark {mark!r} is none: use mark_of({kind.name!r})"
    if kind.field == "target" and own not in kind.marks:
        yield f"it has no mark: use mark_of({kind.name!r})"
    if not kind.examples or not kind.marks:
        yield "it needs a mark and an example"


def _broken_laws(kind: LabelKind, label: str) -> Iterator[str]:
    """Yields the laws of the protocol that an example of a kind breaks."""
    if not label.startswith(kind.marks):
        yield "its string begins with none of the marks"
    value = kind.write(label)
    if kind.field == "target" and not isinstance(value, Mapping):
        yield f"write gives {value!r}, and `target` is an object"
    if problem := kind.problem(value):
        yield f"what write gives has a problem: {problem}"
    read = kind.read(value)
    if kind.learnt(read, UNIT_RANGE) != label:
        yield f"what write gives is read as {read!r}"
    if not isinstance(kind.render(label), str):
        yield "render gives no text"
    names = kind.row_names(label)
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        yield f"row_names gives {names!r}, no tuple of names"
    if not kind.has_classes and not all(name.startswith(kind.marks) for name in names):
        yield "its rows begin with none of the marks"
    if kind.with_classes(label, kind.class_names(label)) != label:
        yield "with_classes changes it"
    word = kind.fingerprint(label)
    words = word if isinstance(word, tuple) else (word,)
    if word == 0 or len(words) > MAX_WORDS or not all(0 <= each < 1 << 32 for each in words):
        yield f"fingerprint gives {word!r}: one to {MAX_WORDS} words of 32 bits, not 0"
    if (agreement := kind.agreement(word, word)) != 1:
        yield f"it agrees with itself by {agreement!r}, not 1"
    if agreement := kind.agreement(0, word):
        yield f"it agrees with no answer by {agreement!r}, not 0"


def mark_of(name: str) -> str:
    """Returns the mark of a kind that has no control character of its own: its strings begin with that.

    >>> mark_of("interval")
    '\\x1einterval\\x1e'
    """
    return f"{TAG}{name}{TAG}"


def kind_of(label: str) -> LabelKind:
    """Returns the kind of a label, by its mark."""
    mark = label[:1]
    if mark not in MARKS:
        return KINDS.of_mark("")
    return KINDS.of_mark(label[: label.find(TAG, 1) + 1] if mark == TAG else mark)


def class_names(label: str) -> tuple[str, ...]:
    """Returns the names of the classes that a label has."""
    return kind_of(label).class_names(label)


def row_names(label: str) -> tuple[str, ...]:
    """Returns the names of the rows of a head that a label is learnt by."""
    return kind_of(label).row_names(label)


def render(label: str) -> str:
    """Returns a label for people."""
    return kind_of(label).render(label)


def claim(record: Any, fields: Sequence[str] = LABEL_FIELDS) -> tuple[LabelKind, Any]:
    """Returns the kind of which a record has a label or an answer, and the value of its field.

    Raises BadMessage if several fields are set, or if no kind has the name that `target` says.
    """
    given = [field for field in fields if getattr(record, field) is not None]
    label = record.label
    if len(given) + bool(label) > 1:
        raise BadMessage("wrong_schema", "give either `label` or `labels` or `value`")
    if not given:
        return KINDS.of_field("label"), label
    (field,) = given
    value = getattr(record, field)
    if field != fields[-1]:
        return KINDS.of_field(field), value
    return KINDS.of_tag(value), value


def said_by(record: Any, fields: Sequence[str] = LABEL_FIELDS) -> str:
    """Returns what the label of a record says. Raises BadMessage as `claim` does."""
    for field in fields:
        if getattr(record, field) is not None:
            kind, value = claim(record, fields)
            return kind.read(value)
    # Most labels are one class: nothing else has to be asked of them.
    return KINDS.of_field("label").read(record.label)


def problem_of_label(record: Any) -> str:
    """Returns what is wrong with the label of a record; "" if nothing is. A kind that fails is wrong, too."""
    try:
        kind, value = claim(record)
    except BadMessage as error:
        return error.detail
    try:
        return kind.problem(value) or _problem_read(kind, value)
    except Exception as error:  # noqa: BLE001  # the kind may be another's: whatever it raises is about this record
        return f"the kind {kind.name} fails on it: {type(error).__name__}: {error}"


def _problem_read(kind: LabelKind, value: Any) -> str:
    label = kind.read(value)
    is_whole = isinstance(label, str) and label.startswith(kind.marks) and kind_of(label) is kind
    return "" if is_whole else f"the kind {kind.name} reads it as {label!r}, which does not begin with its mark"


def fields_of(label: str, fields: Sequence[str] = LABEL_FIELDS) -> dict[str, Any]:
    """Returns the fields of a record that say a label."""
    kind = kind_of(label)
    return {"label": "", **dict.fromkeys(fields)} | field_with(kind, kind.write(label), fields)


def field_with(kind: LabelKind, value: Any, fields: Sequence[str] = LABEL_FIELDS) -> dict[str, Any]:
    """Returns the field of a record that has a value of a kind, by its name."""
    if kind.field in fields[:-1] or kind.field == "label":
        return {kind.field: value}
    return {fields[-1]: None if value is None else {"kind": kind.name, **value}}


def name_hash(name: str | None) -> int:
    """Returns the 32 bits by which a receipt names a class: MurmurHash3 of its name, and 0 if no class is known."""
    return mmh3.hash(name.encode(), signed=False) if name is not None else 0


def draw_of(event: bytes) -> float:
    """Returns the number in [0, 1) that is drawn for an event."""
    return float(mmh3.hash(event, DRAW_SEED, signed=False) * 2.0**-32)


def is_right(predicted: str | None, label: str, event: bytes) -> bool:
    """Whether an answer counts as right for this event. `predicted` is None if the weights knew nothing."""
    if predicted is None or predicted == label:
        return predicted is not None
    kind = kind_of(label)
    return draw_of(event) < kind.agreement(kind.fingerprint(predicted), kind.fingerprint(label))


def group_name(label: str, draw: str) -> str:
    """Returns the class by which a sample is grouped: of several, one of them, each as likely by `draw`.

    >>> group_name("refund", "e-1"), group_name("\\x1drefund", "e-1"), group_name("\\x1d", "e-1")
    ('refund', 'refund', '')
    """
    names = row_names(label)
    return names[0] if len(names) == 1 else min(names, key=lambda name: mmh3.hash(f"{name}\n{draw}"), default="")
