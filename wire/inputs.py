"""The content of events: a text, features, and parts of other types. Pure.

    record --encode_content--> the content, one string --parse_content--> ParsedContent: text, values with their codecs
    ParsedContent --model.inputs.tokenize_contents--> the tokens that the encoder reads
                  --model.inputs.InputMap.joined--> an addition to the vector, for values that the encoder cannot read

Events are compared, hashed, stored, learnt and signed by their content, which is one string. If an event has only a
text, its content is that text. Any other content begins with JSON between two marks, with sorted names, followed by the
text. The JSON is an object with the features, or a list of the features and the parts.

    hello        \\x1e{"price":0.06}\\x1ehello        \\x1e[{},{"type":"point","x":1.0,"y":2.0}]\\x1ehello

In records, features have their own field. Any other input is a part: an object whose `type` is the name of its codec.
Only the codec parses its values. A codec has two halves. The half that this module describes does not load torch. The
other half, its tensors (`model.inputs`), is imported by replicas and the learner from the path in `tensors`.

A process can read only parts whose inputs are listed by installed packages, as entry points of the group
`lifelong.inputs`. So no message can make it import another module.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

import msgspec

from wire.errors import BadMessage
from wire.plugins import Registry, check_examples

Features: TypeAlias = dict[str, float | str]
"""Numbers and categories by name."""

Part: TypeAlias = dict[str, Any]
"""A JSON object whose `type` is the name of its codec."""

MAX_EVENT_BYTES: Final = 1 << 20
"""Largest payload of an event, in bytes, unless an input allows more (`max_event_bytes`). A larger payload becomes a
dead letter (Kafka) or a 413 (HTTP)."""

MAX_FEATURES: Final = 1_024
"""Highest number of features in an event."""

MAX_PARTS: Final = 16
"""Highest number of parts in an event."""

MARK: Final = "\x1e"
"""The record separator of ASCII. JSON contains it only as an escape."""

EMPTY_CONTENT: Final[Mapping[str, Any]] = {"text": "", "features": {}, "parts": ()}
"""The content fields of a record, all empty."""

FIELDS: Final = ("features", "parts")
"""The content fields besides the text. Inputs without their own field use the last one."""

FEATURE_BYTES: Final = 128
"""Approximate memory of a feature, in bytes."""

PART_BYTES: Final = 4
"""Approximate memory of a part: bytes for each byte of its JSON."""

_FEATURES: Final = msgspec.json.Decoder(Features)
_PARTS: Final = msgspec.json.Decoder(list[Part])


class Enricher(Protocol):
    """Adds features or parts to events before they are answered. Any thread may call `join`."""

    def join(self, events: Sequence[Any]) -> list[Any]:
        """Returns the events with the added inputs. Answers carry the added inputs, so the learner reads them, too."""

    def start(self) -> None: ...

    def check(self, error: type[Exception]) -> None:
        """Raises `error` if a thread of the enricher has ended unexpectedly."""

    def close(self) -> None: ...


class InputCodec(Protocol):
    """A type of input. Methods depend only on their arguments, and any thread may call them.

    Values are JSON values, and must not be modified.

    - `name`: the `type` of its parts.
    - `field`: `parts`, or the field of records that only this input uses.
    - `tensors`: the import path of the torch half.
    - `has_tokens`: whether the encoder reads the values. If not, the torch half makes a vector of each value.
    - `max_bytes`: the size of the largest message with such a value, if it is larger than MAX_EVENT_BYTES.
    - `examples`: some values. The methods are checked with them when the input is first requested.
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
        """Returns what is wrong with a value that was sent, or that `cut` returned; "" if it is valid."""

    def cut(self, value: Any, max_tokens: int) -> Any:
        """Returns the part of a value that is read if the encoder reads `max_tokens` tokens of an event.

        Answers carry the truncated value, so the learner learns from what the model has read. Truncation must be
        idempotent.
        """

    def sent(self, value: Any) -> Any:
        """Returns a value without the additions of an enricher."""

    def render(self, value: Any) -> str:
        """Returns a value as one line of text for people."""

    def enricher(self, replica: Any) -> Enricher | None:
        """Returns the enricher that adds this input to a replica's events; None if the settings ask for none.

        `replica` has `settings` ([serving]), `bus`, `receipts`, `labels`, `trust` and `backoff`.
        """


@runtime_checkable
class FileCodec(InputCodec, Protocol):
    """A type of input whose files may be the whole value of a message, in place of JSON.

    - `file_types`: the beginnings of the content types of such messages.
    """

    @property
    def file_types(self) -> tuple[str, ...]: ...

    def part_of(self, file: bytes, content_type: str) -> Part:
        """Returns a file as a part. `problem` says later what is wrong with it."""


class _Inputs(Registry[InputCodec]):
    """The registry of the inputs. It also finds the codec of a part."""

    def __init__(self) -> None:
        super().__init__("inputs", InputCodec)
        self._is_loaded = False

    def all(self) -> tuple[InputCodec, ...]:
        """Returns the inputs that are built in, installed or requested so far, sorted by name. Raises PluginError."""
        if not self._is_loaded:
            self.load_installed()
            self._is_loaded = True
        return super().all()

    def registration_problem(self, plugin: InputCodec, others: Iterable[InputCodec]) -> str:
        if plugin.field not in FIELDS:
            return f"its field is `{plugin.field}`: use `parts`"
        if not plugin.examples:
            return "it needs an example"
        for other in others:
            if plugin.field == other.field != "parts":
                return f"its field `{plugin.field}` belongs to the input {other.name!r}: use `parts`"
        return check_examples(plugin, "value", _broken_laws)

    def part_codec(self, part: Part) -> InputCodec:
        """Returns the codec of a part. Raises BadMessage if this process has no such codec."""
        name = part.get("type")
        codec = self._plugins.get(name) if isinstance(name, str) else None
        # The codec is looked up among the installed inputs only if it was not requested yet.
        if codec is None or codec.field != "parts":
            known = {codec.name: codec for codec in self.all() if codec.field == "parts"}
            codec = known.get(str(name))
            hint = f"there are {', '.join(known)}" if known else "no package with another input is installed"
            if codec is None:
                raise BadMessage("wrong_schema", f"`parts` has the `type` {name!r}, which no input has: {hint}")
        return codec


INPUTS: Final = _Inputs()
"""The inputs of events, besides texts."""


def max_event_bytes() -> int:
    """Returns the size of the largest event that is read, in bytes."""
    return max(MAX_EVENT_BYTES, *(codec.max_bytes for codec in INPUTS.all()))


def part_of_file(file: bytes, content_type: str) -> Part | None:
    """Returns the part of a message whose value is a file; None if no input has files of this content type."""
    for codec in INPUTS.all():
        if isinstance(codec, FileCodec) and content_type.lower().startswith(codec.file_types):
            part: Part = _call(codec, "part_of", file, content_type)
            return part
    return None


class ParsedContent(NamedTuple):
    """The parsed content of an event: its text, and its other values, each with its codec."""

    text: str
    values: tuple[tuple[InputCodec, Any], ...] = ()

    @property
    def is_encoded(self) -> bool:
        """Whether the encoder reads any part of the content."""
        return bool(self.text.strip()) or any(codec.has_tokens for codec, _ in self.values)


def _broken_laws(codec: InputCodec, value: Any) -> Iterator[str]:
    """Yields a sentence for each rule of the protocol that an example of a codec breaks."""
    if codec.field == "parts" and (not isinstance(value, dict) or value.get("type") != codec.name):
        yield f"its `type` is not {codec.name!r}"
    cut = codec.cut(value, 64)
    for shown, made in (("it", value), ("the result of cut", cut), ("the result of sent", codec.sent(value))):
        if problem := codec.problem(made):
            yield f"{shown} has a problem: {problem}"
        if msgspec.json.decode(msgspec.json.encode(made)) != made:
            yield f"{shown} is not a JSON value: {made!r}"
    if codec.cut(cut, 64) != cut:
        yield f"cut changes its own result: {cut!r}"
    if not isinstance(codec.render(value), str):
        yield "render does not return a text"


def encode_content(text: str, features: Features, parts: Sequence[Part] = ()) -> str:
    """Returns the content of an event as one string. Different contents have different strings; names are sorted.

    >>> encode_content("hello", {}), encode_content("", {"b": 1.0, "a": "x"})
    ('hello', '\\x1e{"a":"x","b":1.0}\\x1e')
    """
    if not features and not parts and not text.startswith(MARK):
        return text
    values = {name: value if isinstance(value, str) else float(value) for name, value in features.items()}
    head = [values, *parts] if parts else values
    return f"{MARK}{msgspec.json.encode(head, order='sorted').decode()}{MARK}{text}"


def decode_content(content: str) -> dict[str, Any]:
    """Parses a content string into the fields of a record: `text`, `features` and `parts`.

    >>> decode_content(encode_content("hello", {"a": 1.0}))
    {'text': 'hello', 'features': {'a': 1.0}, 'parts': ()}
    """
    if not content.startswith(MARK):
        return {**EMPTY_CONTENT, "text": content}
    head, _, text = content[1:].partition(MARK)
    try:
        if head.startswith("["):
            features, *parts = _PARTS.decode(head)
            return {"text": text, "features": features, "parts": tuple(parts)}
        return {"text": text, "features": _FEATURES.decode(head), "parts": ()}
    except (msgspec.DecodeError, ValueError):
        # A text that begins with a mark, from a program that did not know features.
        return {**EMPTY_CONTENT, "text": content}


def fields_of(record: Any) -> dict[str, Any]:
    """Returns the content fields of a record."""
    return {"text": record.text, "features": record.features, "parts": record.parts}


def is_text(record: Any) -> bool:
    """Whether the content of a record is only a text, so that it needs no codec."""
    return not record.features and not record.parts


def parse_record(record: Any) -> ParsedContent:
    """Returns the parsed content of a record. Raises BadMessage for a part of an unknown type."""
    if is_text(record):
        return ParsedContent(record.text)
    values: list[tuple[InputCodec, Any]] = []
    if record.features:
        values.append((INPUTS.get("features"), record.features))
    for part in record.parts:
        values.append((INPUTS.part_codec(part), part))
    return ParsedContent(record.text, tuple(values))


def _content_fields(text: str, values: Iterable[tuple[InputCodec, Any]]) -> dict[str, Any]:
    """Returns the content fields of a record with this text and these values."""
    fields: dict[str, Any] = {**EMPTY_CONTENT, "text": text}
    for codec, value in values:
        fields[codec.field] = (*fields["parts"], value) if codec.field == "parts" else value
    return fields


class _Fields(NamedTuple):
    """The content fields of a record."""

    text: str
    features: Features
    parts: tuple[Part, ...]


def parse_content(content: str) -> ParsedContent:
    """Parses a content string, with a codec for each value. Raises BadMessage for a part of an unknown type."""
    return parse_record(_Fields(**decode_content(content))) if content.startswith(MARK) else ParsedContent(content)


def has_more_than_text(content: str) -> bool:
    """Whether a content has any value besides a text."""
    return content.startswith(MARK) and bool(parse_content(content).values)


def encoded(content: str) -> str:
    """Returns the content without the values that the encoder cannot read; "" if it can read nothing.

    >>> encoded("hello"), encoded(encode_content("hello", {"a": 1.0}))
    ('hello', 'hello')
    """
    return encoder_content(_Fields(**decode_content(content))) if content.startswith(MARK) else content


def encoder_content(record: Any) -> str:
    """Returns a record's content without the values that the encoder cannot read."""
    parsed = parse_record(record)
    return encode_content(parsed.text, {}, [value for codec, value in parsed.values if codec.has_tokens])


def is_encoded(content: str) -> bool:
    """Whether the encoder reads any part of a content."""
    return parse_content(content).is_encoded


def sent(content: str) -> str:
    """Returns a content as it was sent, without the additions of enrichers."""
    if not content.startswith(MARK):
        return content
    try:
        parsed = parse_content(content)
        own = tuple((codec, _call(codec, "sent", value)) for codec, value in parsed.values)
    except BadMessage:
        # The caller that parses this content reports the error.
        return content
    return content if own == parsed.values else encode_content(**_content_fields(parsed.text, own))


def cut(record: Any, max_tokens: int) -> dict[str, Any]:
    """Returns the content fields of a record, each value truncated to the part that is read.

    Raises BadMessage, which names the input, if its codec fails.
    """
    parsed = parse_record(record)
    values = [(codec, _call(codec, "cut", value, max_tokens)) for codec, value in parsed.values]
    return _content_fields(parsed.text, values)


def num_bytes(record: Any) -> int:
    """Returns the approximate memory of a record's content, in bytes."""
    size = sys.getsizeof(record.text) + FEATURE_BYTES * len(record.features)
    return size + PART_BYTES * len(msgspec.json.encode(record.parts)) if record.parts else size


def render(record: Any) -> str:
    """Returns the content of a record as one line for people: its text, or if it has none, its other values."""
    if record.text:
        return str(record.text)
    try:
        return ", ".join(_call(codec, "render", value) for codec, value in parse_record(record).values)
    except BadMessage as error:
        return error.detail


def problem_of_content(text: str, features: Features, parts: Sequence[Part] = ()) -> str:
    """Returns what is wrong with the content of an event, which must not be empty; "" if it is valid."""
    if not features and not parts:
        return "" if text.strip() else "`text` is blank, and there are no `features`"
    return find_problem(features, parts)


def find_problem(features: Features, parts: Sequence[Part] = ()) -> str:
    """Returns what is wrong with the values of an event; "" if they are valid. If a codec raises an exception, they are
    invalid."""
    if not features and not parts:
        return ""
    if len(parts) > MAX_PARTS:
        return f"`parts` has {len(parts)} parts, at most {MAX_PARTS} are read"
    try:
        for codec, value in parse_record(_Fields("", features, tuple(parts))).values:
            if problem := _call(codec, "problem", value):
                return str(problem)
    except BadMessage as error:
        return error.detail
    return ""


def _call(codec: InputCodec, method: str, *arguments: Any) -> Any:
    """Calls a method of a codec. A user's codec may raise any exception: it becomes a BadMessage that names the
    codec."""
    try:
        return getattr(codec, method)(*arguments)
    except Exception as error:
        detail = f"the input {codec.name} fails on it: {type(error).__name__}: {error}"
        raise BadMessage("wrong_schema", detail) from error


def problem_of_stored(contents: Iterable[str]) -> str:
    """Returns the problem if stored contents have inputs that this process does not have; "" if it can read all of
    them."""
    try:
        for content in contents:
            parse_content(content)
    except BadMessage as error:
        return f"the learnt samples have inputs that are missing now: {error.detail}"
    return ""
