"""What events contain: a text, features, parts of further kinds. Pure.

    record --content_of--> one string, the content --said_in--> Said: the text, and each value with its codec
    Said --tokens_of--> what the encoder reads         --InputMap.joined--> what is added to its vector (`model.inputs`)

Where events are compared, digested, remembered, learnt or signed, this is done by their content, one string. That of
an event that says nothing but a text is that text. Any other begins with a mark, and what comes between two of them is
JSON with sorted names: an object, which has the features, or a list of the features and the parts.

    hello        \\x1e{"price":0.06}\\x1ehello        \\x1e[{},{"type":"point","x":1.0,"y":2.0}]\\x1ehello

Features have a field of their own in records. Anything else is a part: an object whose `type` is the name of its codec.
Only the codec looks into a value. It has two halves: this one, which loads no torch, and its tensors (`model.inputs`),
which replicas and the learner import by the path that is its `tensors`. A process reads parts of the inputs that its
installed packages list as entry points of the group `lifelong.inputs`: no message makes it import anything else.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from wire.errors import BadMessage
from wire.plugins import Registry, problem_of_examples

Features: TypeAlias = dict[str, float | str]
"""Numbers and categories by name."""

Part: TypeAlias = dict[str, Any]
"""An object of JSON whose `type` is the name of its codec."""

MAX_EVENT_BYTES: Final = 1 << 20
"""Largest payload of an event, in bytes, unless an input may be larger: see `max_event_bytes`. A larger one becomes a
dead letter (Kafka) or a 413 (HTTP)."""

MAX_FEATURES: Final = 1_024
"""Most features of an event."""

MAX_PARTS: Final = 16
"""Most parts of an event."""

MARK: Final = "\x1e"
"""The record separator of ASCII, which JSON holds only as an escape."""

NOTHING_SAID: Final[Mapping[str, Any]] = {"text": "", "features": {}, "parts": ()}
"""The fields of a record that have what an event says, without any of it."""

FIELDS: Final = ("features", "parts")
"""The fields of what an event says besides its text. The last one is that of all inputs without one of their own."""

FEATURE_BYTES: Final = 128
"""Approximate memory of a feature."""

PART_BYTES: Final = 4
"""Approximate memory of what one byte of JSON of a part says."""

_FEATURES: Final = msgspec.json.Decoder(Features)
_PARTS: Final = msgspec.json.Decoder(list[Part])


class Enricher(Protocol):
    """Gives events more features, or parts, before they are answered. Any thread may call `join`."""

    def join(self, events: Sequence[Any]) -> list[Any]:
        """Returns the events with what they take over. Answers carry it, so all versions and the learner read it."""

    def start(self) -> None: ...

    def check(self, error: type[Exception]) -> None:
        """Raises `error` if a thread of its own has ended by itself."""

    def close(self) -> None: ...


class InputCodec(Protocol):
    """What an event may contain, and what becomes of it. Methods are functions of their arguments alone, which any
    thread may call. Values are those of JSON, and are not changed.

    `name` is the `type` of its parts, and `field` is `parts`, or the field of records that it has to itself. `tensors`
    is the import path of its other half. `has_tokens`: the encoder reads it; if not, its tensors make a vector of it.
    `max_bytes` is the largest message of an event that has one, if that is more than MAX_EVENT_BYTES.

    `examples` are some values: what the codec makes of them is checked when it is first asked for.
    """

    @property
    def name(self) -> str: ...
    @property
    def field(self) -> str: ...
    @property
    def tensors(self) -> str: ...
    @property
    def has_tokens(self) -> bool: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def examples(self) -> tuple[Any, ...]: ...

    def problem(self, value: Any) -> str:
        """Returns what is wrong with a value, as it was sent or as `cut` has made it; "" if nothing is."""

    def cut(self, value: Any, max_tokens: int) -> Any:
        """Returns what is read of a value if the encoder reads `max_tokens` of an event. The answer carries that in
        place of what was sent, so it is what is learnt. Cut again, it stays as it is."""

    def sent(self, value: Any) -> Any:
        """Returns a value without what an enricher has added."""

    def render(self, value: Any) -> str:
        """Returns a value for people, in one line."""

    def enricher(self, replica: Any) -> Enricher | None:
        """Returns what gives the events of a replica more of this input; None if its settings ask for nothing.

        `replica` has `settings` ([serving]), `bus`, `receipts`, `labels`, `trust` and `backoff`.
        """


class _Inputs(Registry[InputCodec]):
    """The registry of the door."""

    def __init__(self) -> None:
        super().__init__("inputs", InputCodec)
        self._is_loaded = False

    def all(self) -> tuple[InputCodec, ...]:
        """Returns the built-in inputs, those of installed packages, and those that were asked for, by name. Raises
        PluginError."""
        if not self._is_loaded:
            self.load_installed()
            self._is_loaded = True
        return super().all()

    def problem_beside(self, plugin: InputCodec, others: Iterable[InputCodec]) -> str:
        if plugin.field not in FIELDS:
            return f"its field is `{plugin.field}`: use `parts`"
        if not plugin.examples:
            return "it needs an example"
        for other in others:
            if plugin.field == other.field != "parts":
                return f"its field `{plugin.field}` is that of the input {other.name!r}: use `parts`"
        return problem_of_examples(plugin, "value", _broken_laws)

    def of_part(self, part: Part) -> InputCodec:
        """Returns the codec of a part. Raises BadMessage if there is none here."""
        name = part.get("type")
        codec = self._plugins.get(name) if isinstance(name, str) else None
        if codec is None or codec.field != "parts":
            known = {codec.name: codec for codec in self.all() if codec.field == "parts"}
            codec = known.get(str(name))
            there = f"there are {', '.join(known)}" if known else "no package with another input is installed"
            if codec is None:
                raise BadMessage("wrong_schema", f"`parts` has the `type` {name!r}, which no input is: {there}")
        return codec


INPUTS: Final = _Inputs()
"""The inputs of events, besides texts."""


def max_event_bytes() -> int:
    """Returns the most bytes of an event that are read."""
    return max(MAX_EVENT_BYTES, *(codec.max_bytes for codec in INPUTS.all()))


class Said(NamedTuple):
    """What an event says: its text, and its other values, each with its codec."""

    text: str
    values: tuple[tuple[InputCodec, Any], ...] = ()

    @property
    def is_encoded(self) -> bool:
        """Whether the encoder reads anything of it."""
        return bool(self.text.strip()) or any(codec.has_tokens for codec, _ in self.values)


def _broken_laws(codec: InputCodec, value: Any) -> Iterator[str]:
    """Yields the laws of the protocol that an example of a codec breaks."""
    if codec.field == "parts" and (not isinstance(value, dict) or value.get("type") != codec.name):
        yield f"its `type` is not {codec.name!r}"
    cut = codec.cut(value, 64)
    for shown, made in (("it", value), ("what cut gives", cut), ("what sent gives", codec.sent(value))):
        if problem := codec.problem(made):
            yield f"{shown} has a problem: {problem}"
        if msgspec.json.decode(msgspec.json.encode(made)) != made:
            yield f"{shown} is no value of JSON: {made!r}"
    if codec.cut(cut, 64) != cut:
        yield f"cut changes what it has cut: {cut!r}"
    if not isinstance(codec.render(value), str):
        yield "render gives no text"


def content_of(text: str, features: Features, parts: Sequence[Part] = ()) -> str:
    """Returns one string for what an event says; what differs has another string, and the order of names is nothing.

    >>> content_of("hello", {}), content_of("", {"b": 1.0, "a": "x"})
    ('hello', '\\x1e{"a":"x","b":1.0}\\x1e')
    """
    if not features and not parts and not text.startswith(MARK):
        return text
    values = {name: value if isinstance(value, str) else float(value) for name, value in features.items()}
    head = [values, *parts] if parts else values
    return f"{MARK}{msgspec.json.encode(head, order='sorted').decode()}{MARK}{text}"


def fields_in(content: str) -> dict[str, Any]:
    """Returns the fields of a record that say a content: `text`, `features` and `parts`.

    >>> fields_in(content_of("hello", {"a": 1.0}))
    {'text': 'hello', 'features': {'a': 1.0}, 'parts': ()}
    """
    if not content.startswith(MARK):
        return {**NOTHING_SAID, "text": content}
    head, _, text = content[1:].partition(MARK)
    try:
        if head.startswith("["):
            features, *parts = _PARTS.decode(head)
            return {"text": text, "features": features, "parts": tuple(parts)}
        return {"text": text, "features": _FEATURES.decode(head), "parts": ()}
    except (msgspec.DecodeError, ValueError):  # a text of a program from before there were features
        return {**NOTHING_SAID, "text": content}


def fields_of(record: Any) -> dict[str, Any]:
    """Returns the fields in which a record has what an event says."""
    return {"text": record.text, "features": record.features, "parts": record.parts}


def is_text(record: Any) -> bool:
    """Whether a record says nothing of its event but a text: then no codec is asked."""
    return not record.features and not record.parts


def said_by(record: Any) -> Said:
    """Returns what a record says of its event. Raises BadMessage for a part of an unknown type."""
    if is_text(record):
        return Said(record.text)
    own = ((INPUTS.get("features"), record.features),) if record.features else ()
    return Said(record.text, (*own, *((INPUTS.of_part(part), part) for part in record.parts)))


def _fields_saying(text: str, values: Iterable[tuple[InputCodec, Any]]) -> dict[str, Any]:
    """Returns the fields of a record that say these values."""
    fields: dict[str, Any] = {**NOTHING_SAID, "text": text}
    for codec, value in values:
        fields[codec.field] = (*fields["parts"], value) if codec.field == "parts" else value
    return fields


class _Fields(NamedTuple):
    text: str
    features: Features
    parts: tuple[Part, ...]


def said_in(content: str) -> Said:
    """Returns what a content says. Raises BadMessage for a part of an unknown type."""
    return said_by(_Fields(**fields_in(content))) if content.startswith(MARK) else Said(content)


def has_more(content: str) -> bool:
    """Whether an event says more than a text."""
    return content.startswith(MARK) and bool(said_in(content).values)


def encoded(content: str) -> str:
    """Returns the content of that alone which the encoder reads; "" if it reads nothing.

    >>> encoded("hello"), encoded(content_of("hello", {"a": 1.0}))
    ('hello', 'hello')
    """
    return encoded_of(_Fields(**fields_in(content))) if content.startswith(MARK) else content


def encoded_of(record: Any) -> str:
    """Returns the content of that alone which the encoder reads of a record."""
    said = said_by(record)
    return content_of(said.text, {}, [value for codec, value in said.values if codec.has_tokens])


def is_encoded(content: str) -> bool:
    """Whether the encoder reads anything of a content."""
    return said_in(content).is_encoded


def sent(content: str) -> str:
    """Returns a content as it was sent: without what was added to it in the replica."""
    if not content.startswith(MARK):
        return content
    try:
        said = said_in(content)
        own = tuple((codec, _called(codec, "sent", value)) for codec, value in said.values)
    except BadMessage:  # it cannot be read, which is found where it is read
        return content
    return content if own == said.values else content_of(**_fields_saying(said.text, own))


def cut(record: Any, max_tokens: int) -> dict[str, Any]:
    """Returns the fields of a record that say what is read of it.

    Raises BadMessage, which names the input.
    """
    said = said_by(record)
    return _fields_saying(said.text, [(codec, _called(codec, "cut", each, max_tokens)) for codec, each in said.values])


def num_bytes(record: Any) -> int:
    """Returns the approximate memory of what a record says."""
    size = sys.getsizeof(record.text) + FEATURE_BYTES * len(record.features)
    return size + PART_BYTES * len(msgspec.json.encode(record.parts)) if record.parts else size


def render(record: Any) -> str:
    """Returns what a record says of its event, for people, in one line: its text, or else its other values."""
    if record.text:
        return str(record.text)
    try:
        return ", ".join(_called(codec, "render", value) for codec, value in said_by(record).values)
    except BadMessage as error:
        return error.detail


def problem_of_content(text: str, features: Features, parts: Sequence[Part] = ()) -> str:
    """Returns what is wrong with what an event says, or that it says nothing; "" if nothing is wrong."""
    if not features and not parts:
        return "" if text.strip() else "`text` is blank, and there are no `features`"
    return problem_of(features, parts)


def problem_of(features: Features, parts: Sequence[Part] = ()) -> str:
    """Returns what is wrong with the values of an event; "" if nothing is. A codec that fails is wrong, too."""
    if not features and not parts:
        return ""
    if len(parts) > MAX_PARTS:
        return f"`parts` has {len(parts)} of them, at most {MAX_PARTS} are read"
    try:
        for codec, value in said_by(_Fields("", features, tuple(parts))).values:
            if problem := _called(codec, "problem", value):
                return str(problem)
    except BadMessage as error:
        return error.detail
    return ""


def _called(codec: InputCodec, method: str, *arguments: Any) -> Any:
    """Calls a method of a codec, which may be another's. Raises BadMessage, which names the codec, if that raises."""
    try:
        return getattr(codec, method)(*arguments)
    except Exception as error:
        detail = f"the input {codec.name} fails on it: {type(error).__name__}: {error}"
        raise BadMessage("wrong_schema", detail) from error


def problem_of_known(contents: Iterable[str]) -> str:
    """Returns what is wrong with contents of before: a part of a type that is no input any more; "" if nothing."""
    try:
        for content in contents:
            said_in(content)
    except BadMessage as error:
        return f"what was learnt has other inputs: {error.detail}"
    return ""
