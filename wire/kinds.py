"""Kinds of labels: one class, a set of classes, a number, or a user's own kind. Pure.

    record --kind_and_value--> its label's kind and value --read--> the label, one string --write--> value
    label --class_names, row_names, with_classes, render, fingerprint--> what the core needs to know about the label

**One string.** Inside the programs, a label of any kind is one string, which is compared, hashed, stored, learnt and
signed. Only the label's kind parses it. If the label is a single class, the string is the name of the class. For every
other kind, the string begins with the kind's mark: a control character from U+001C to U+001F, which no name contains.
So the mark tells the kind of a string, and in a record the field tells the kind.

**Partly right answers.** All decisions about versions (McNemar's test, confidence sequences, drift) count right
answers. But an answer may be partly right: its kind defines its agreement with the label, in [0, 1]. Such an answer
counts as right if the random number of the event, uniform in [0, 1), is below the agreement (randomised rounding,
Raghavan and Thompson 1987). The expected share of right answers is then the mean agreement. So every bound on the share
is a bound on the mean agreement, and counts are still sufficient as evidence. The random number of an event is the same
for all versions. So two versions differ with a probability equal to the difference of their agreements, and no other
rounding makes them differ less often.

A kind has two halves. The half that this module describes does not load torch. The other half, its tensors
(`model.kinds`), is imported by replicas and the learner from the path in `tensors`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import mmh3

from wire.errors import BadMessage
from wire.plugins import PluginError, Registry, check_examples

MARKS: Final = ("\x1c", "\x1d", "\x1e", "\x1f")
"""The characters that a mark may begin with. No class name contains one of them."""

TAG: Final = "\x1e"
"""Delimits the mark of a kind that has no control character of its own (`kind_prefix`)."""

DEFAULT: Final = "class"
"""The default kind. Stored records do not name it."""

LABEL_FIELDS: Final = ("labels", "value", "target")
"""The fields of a label record besides `label`. Exactly one of the four fields has the label."""

ANSWER_FIELDS: Final = ("labels", "value", "output")
"""The same fields of an answer. All kinds without their own field use the last field: `target`, or `output` in an
answer."""

DRAW_SEED: Final = 0x6472_6177
"""Seed of the hash that makes the random number of an event."""

MAX_WORDS: Final = 12
"""Highest number of words in a fingerprint, and of classes in a predicted set. A receipt has no room for more."""

Fingerprint: TypeAlias = int | tuple[int, ...]
"""A prediction as a receipt contains it: one to MAX_WORDS words of 32 bits. 0: the version knew no class."""


class Range(Protocol):
    """The range of scores, from the settings of labels."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class Card(NamedTuple):
    """The parts of an exported version's model card that depend on the kind of its labels.

    - `scores`: a Python expression that computes scores from `logits`.
    - `predict`: a Python statement that returns the predictions for `texts`.
    - `answers`: a line that describes the answers ("": the list of classes is enough).
    """

    scores: str
    predict: str
    answers: str = ""


class LabelKind(Protocol):
    """A kind of labels. Each method depends only on its arguments, and may be called from any thread.

    - `name`: the value of `labels.kind`, unless that is an import path.
    - `field`: the field of records that has labels of this kind: `label`, `labels`, `value`, or `target` for all kinds
      without a field of their own.
    - `noun`, `how_sent`: words for error messages, such as "a score" and "`value`, a number".
    - `marks`: the prefixes of its strings: "" for single classes, else one of MARKS or `kind_prefix(name)`.
    - `tensors`: the import path of the torch half.
    - `is_exclusive`: each event has exactly one class. Only then may a class replace another one, change its meaning,
      be learnt from its newest labels, or lose its row to a new class.
    - `has_classes`: labels consist of classes. Operators may rename, merge or retire them, and each class has a mean
      vector.
    - `trains_encoder`: slow rounds learn from labels of this kind.
    - `examples`: some labels, as they are learnt. The methods are checked with them when the kind is first requested.
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
        """Returns what is wrong with the value of a record's field; "" if it is valid."""

    def read(self, value: Any) -> str:
        """Returns the valid value of a record's field as a label."""

    def write(self, label: str) -> Any:
        """Returns a label as the value of a record's field: `read(write(label))` is the label as it was sent."""

    def from_value(self, value: Any) -> Any:
        """Converts a JSON value of a foreign message to the value of a record's field; None if it has no label.

        Raises BadMessage. Its detail continues a sentence that shows the value, as in "a score is a number".
        """

    def from_text(self, text: str) -> Any:
        """Converts a line that a person typed to the value of a record's field. Raises BadMessage as `from_value`."""

    def render(self, label: str) -> str:
        """Returns a label for people."""

    def class_names(self, label: str) -> tuple[str, ...]:
        """Returns the names of a label's classes; () if the kind has no classes."""

    def row_names(self, label: str) -> tuple[str, ...]:
        """Returns the names of the head's rows that a label trains.

        These are the label's classes, or rows of the kind itself, whose names begin with one of its marks.
        """

    def with_classes(self, label: str, names: Sequence[str]) -> str:
        """Returns the label with its classes replaced by `names`; the label itself if the kind has no classes."""

    def learnt(self, label: str, space: Range) -> str:
        """Returns the form of a label that is learnt: a score is mapped to its place in the range of the settings, in
        [0, 1]."""

    def fingerprint(self, label: str) -> Fingerprint:
        """Returns the fingerprint of a label, which represents it in a receipt; never 0. The label has the form that is
        learnt."""

    def agreement(self, predicted: Fingerprint, labelled: Fingerprint) -> float:
        """Returns how well a prediction agrees with a label, in [0, 1]; 1 if both are equal."""

    def card(self, space: Range) -> Card:
        """Returns the parts of an exported version's model card that depend on the kind."""


class _Kinds(Registry[LabelKind]):
    """The registry of the kinds. It also finds a kind by its field and by its mark."""

    def __init__(self) -> None:
        super().__init__("kinds", LabelKind)
        self._by_field: dict[str, LabelKind] = {}
        self._by_mark: dict[str, LabelKind] = {}

    def register(self, plugin: LabelKind) -> LabelKind:
        kind = super().register(plugin)
        # Several kinds share `target`, so only the other fields identify a kind.
        if kind.field in (*LABEL_FIELDS[:-1], "label"):
            self._by_field[kind.field] = kind
        self._by_mark |= dict.fromkeys(kind.marks, kind)
        return kind

    def registration_problem(self, plugin: LabelKind, others: Iterable[LabelKind]) -> str:
        if problem := next(_attribute_problems(plugin), ""):
            return problem
        for other in others:
            if plugin.field == other.field != "target":
                return f"its field `{plugin.field}` belongs to the kind {other.name!r}: use `target`"
            if marks := {*plugin.marks} & {*other.marks}:
                return f"its mark {min(marks)!r} belongs to the kind {other.name!r}: use kind_prefix({plugin.name!r})"
        return check_examples(plugin, "label", _broken_laws)

    def of_field(self, field: str) -> LabelKind:
        """Returns the kind whose labels are in this field of records. The field must not be `target`, which several
        kinds use."""
        return self._by_field.get(field) or self._built_in(self._by_field, field)

    def of_mark(self, mark: str) -> LabelKind:
        """Returns the kind whose labels begin with this mark. Raises PluginError if the process does not have it."""
        return self._by_mark.get(mark) or self._built_in(self._by_mark, mark)

    def of_target(self, value: Any) -> LabelKind:
        """Returns the kind that a `target` names.

        Raises BadMessage if the settings of this process do not have it: no message may make a process import a module.
        """
        name = value.get("kind")
        kind = self._by_mark.get(kind_prefix(name)) if isinstance(name, str) else None
        if kind is None:
            detail = f"`target` has the `kind` {name!r}, which is not the labels.kind of this service"
            raise BadMessage("wrong_schema", detail)
        return kind

    def _built_in(self, known: Mapping[str, LabelKind], key: str) -> LabelKind:
        """Loads the built-in kinds, and returns the kind with this key. Raises PluginError if there is none."""
        self.all()
        if key not in known:
            name = key.strip(TAG)
            raise PluginError(f"a label has the unknown kind {name!r}: set labels.kind to its import path")
        return known[key]


KINDS: Final = _Kinds()
"""The kinds of labels."""


class _Unit(NamedTuple):
    low: float = 0.0
    high: float = 1.0


UNIT_RANGE: Final = _Unit()
"""The range from 0 to 1."""


def _attribute_problems(kind: LabelKind) -> Iterator[str]:
    """Yields what is wrong with the attributes of a kind."""
    own = kind_prefix(kind.name)
    if kind.field not in ("label", *LABEL_FIELDS):
        yield f"its field is `{kind.field}`: use `target`"
    for mark in kind.marks:
        if mark not in ("", *MARKS, own) or mark == TAG:
            yield f"its mark {mark!r} is not allowed: use kind_prefix({kind.name!r})"
    if kind.field == "target" and own not in kind.marks:
        yield f"it has no mark: use kind_prefix({kind.name!r})"
    if not kind.examples or not kind.marks:
        yield "it needs a mark and an example"


def _broken_laws(kind: LabelKind, label: str) -> Iterator[str]:
    """Yields a sentence for each rule of the protocol that an example of a kind breaks."""
    if not label.startswith(kind.marks):
        yield "its string begins with none of the kind's marks"
    value = kind.write(label)
    if kind.field == "target" and not isinstance(value, Mapping):
        yield f"write returns {value!r}, and a `target` has to be an object"
    if problem := kind.problem(value):
        yield f"the value that write returns has a problem: {problem}"
    read = kind.read(value)
    if kind.learnt(read, UNIT_RANGE) != label:
        yield f"read returns {read!r} for the value that write returns"
    if not isinstance(kind.render(label), str):
        yield "render does not return a text"
    names = kind.row_names(label)
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        yield f"row_names returns {names!r}, not a tuple of names"
    if not kind.has_classes and not all(name.startswith(kind.marks) for name in names):
        yield "its rows begin with none of the kind's marks"
    if kind.with_classes(label, kind.class_names(label)) != label:
        yield "with_classes changes it"
    word = kind.fingerprint(label)
    words = word if isinstance(word, tuple) else (word,)
    if word == 0 or len(words) > MAX_WORDS or not all(0 <= part < 1 << 32 for part in words):
        yield f"fingerprint returns {word!r}, not one to {MAX_WORDS} words of 32 bits other than 0"
    if (agreement := kind.agreement(word, word)) != 1:
        yield f"its agreement with itself is {agreement!r}, not 1"
    if agreement := kind.agreement(0, word):
        yield f"its agreement with no answer is {agreement!r}, not 0"


def kind_prefix(name: str) -> str:
    """Returns the prefix of the labels of a kind that has no control character of its own.

    >>> kind_prefix("interval")
    '\\x1einterval\\x1e'
    """
    return f"{TAG}{name}{TAG}"


def find_kind(label: str) -> LabelKind:
    """Returns the kind of a label, by its mark."""
    mark = label[:1]
    if mark not in MARKS:
        return KINDS.of_mark("")
    return KINDS.of_mark(label[: label.find(TAG, 1) + 1] if mark == TAG else mark)


def class_names(label: str) -> tuple[str, ...]:
    """Returns the names of a label's classes."""
    return find_kind(label).class_names(label)


def row_names(label: str) -> tuple[str, ...]:
    """Returns the names of the head's rows that a label trains."""
    return find_kind(label).row_names(label)


def render(label: str) -> str:
    """Returns a label for people."""
    return find_kind(label).render(label)


def kind_and_value(record: Any, fields: Sequence[str] = LABEL_FIELDS) -> tuple[LabelKind, Any]:
    """Returns the kind of the label or answer in a record, and the value of its field.

    Raises BadMessage if several fields are set, or if `target` names an unknown kind.
    """
    set_fields = [field for field in fields if getattr(record, field) is not None]
    label = record.label
    if len(set_fields) + bool(label) > 1:
        raise BadMessage("wrong_schema", "give either `label` or `labels` or `value`")
    if not set_fields:
        return KINDS.of_field("label"), label
    (field,) = set_fields
    value = getattr(record, field)
    if field != fields[-1]:
        return KINDS.of_field(field), value
    return KINDS.of_target(value), value


def label_string(record: Any, fields: Sequence[str] = LABEL_FIELDS) -> str:
    """Returns the label in a record as one string. Raises BadMessage as `kind_and_value` does."""
    for field in fields:
        if getattr(record, field) is not None:
            kind, value = kind_and_value(record, fields)
            return kind.read(value)
    # The fast path: most labels are single classes.
    return KINDS.of_field("label").read(record.label)


def problem_of_label(record: Any) -> str:
    """Returns what is wrong with the label in a record; "" if it is valid. If its kind raises an exception, it is
    invalid."""
    try:
        kind, value = kind_and_value(record)
    except BadMessage as error:
        return error.detail
    try:
        return kind.problem(value) or _mark_problem(kind, value)
    # A user's kind may raise any exception.
    except Exception as error:  # noqa: BLE001
        return f"the kind {kind.name} fails on it: {type(error).__name__}: {error}"


def _mark_problem(kind: LabelKind, value: Any) -> str:
    """Returns the problem if a kind reads a value as a label that does not begin with the kind's mark; "" if there is
    none."""
    label = kind.read(value)
    has_mark = isinstance(label, str) and label.startswith(kind.marks) and find_kind(label) is kind
    return "" if has_mark else f"the kind {kind.name} reads it as {label!r}, which does not begin with its mark"


def fields_of(label: str, fields: Sequence[str] = LABEL_FIELDS) -> dict[str, Any]:
    """Returns the fields of a record that has this label."""
    kind = find_kind(label)
    return {"label": "", **dict.fromkeys(fields)} | field_with(kind, kind.write(label), fields)


def field_with(kind: LabelKind, value: Any, fields: Sequence[str] = LABEL_FIELDS) -> dict[str, Any]:
    """Returns the fields of a record that contain this value of a kind, by name."""
    if kind.field in fields[:-1] or kind.field == "label":
        return {kind.field: value}
    return {fields[-1]: None if value is None else {"kind": kind.name, **value}}


def name_hash(name: str | None) -> int:
    """Returns the 32-bit hash that represents a class in a receipt: MurmurHash3 of its name; 0 for None, no class."""
    return mmh3.hash(name.encode(), signed=False) if name is not None else 0


def event_uniform_hash(event: bytes) -> float:
    """Returns a hash of the event as a number in [0, 1): the random number of the event, equal for all versions."""
    return float(mmh3.hash(event, DRAW_SEED, signed=False) * 2.0**-32)


def is_right(predicted: str | None, label: str, event: bytes) -> bool:
    """Whether a prediction counts as right for this event. `predicted` is None if the weights knew nothing."""
    if predicted is None or predicted == label:
        return predicted is not None
    kind = find_kind(label)
    # Randomised rounding: all versions have the same draw for an event.
    return event_uniform_hash(event) < kind.agreement(kind.fingerprint(predicted), kind.fingerprint(label))


def group_name(label: str, seed: str) -> str:
    """Returns the class by which a sample is grouped. If the label has several classes, one is selected at random, by a
    hash of `seed`.

    >>> group_name("refund", "e-1"), group_name("\\x1drefund", "e-1"), group_name("\\x1d", "e-1")
    ('refund', 'refund', '')
    """
    names = row_names(label)
    return names[0] if len(names) == 1 else min(names, key=lambda name: mmh3.hash(f"{name}\n{seed}"), default="")
