"""`lifelong try-message`: shows the record that a message becomes under the settings, or why it would be refused.

No server is needed.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from services.commands.context import CliContext, reads_settings
from services.commands.exits import USAGE

if TYPE_CHECKING:
    from services.settings import Settings
    from wire.message import Message
    from wire.records import Feedback

FIXES = {
    "empty": "send a JSON object as the value",
    "oversized": "send less: docs/your-topics.md has the bounds",
    "undecodable": "send a JSON object in UTF-8, or a message of the registry of bus.registry.url",
    "wrong_schema": "correct the field, or its template under [bus.map]; `lifelong topics schema` prints our fields",
    "unknown_task": "correct the name, or its template under [bus.map]; [tasks.NAME] in the settings adds a task",
    "wrong_kind": "send a label of the kind in labels.kind, or map it by bus.map.feedback.label, labels or value",
    "not_listed": "correct the label, or add it to labels.allow; labels added on a running service are not known here",
    "wrong_type": "send it to the topic of its type, or map the topic under [bus.map]",
    "future_schema": "update this program, or send the version that it reads",
}
"""The fix of each reason for a refusal."""

HeaderOption = Annotated[
    list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="A header of the message; may be repeated")
]


@reads_settings
def try_message(
    context: CliContext,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The value of a message; - reads standard input")],
    record: Annotated[Literal["event", "feedback"], typer.Option("--as", help="Topic of the message")] = "event",
    key: Annotated[str, typer.Option("--key", help="Key of the message")] = "",
    headers: HeaderOption = None,
) -> None:
    """Show the record that a message becomes as JSON, or why it is refused, and the fix. Exits with 2 if refused."""
    import msgspec

    from wire.bus import readings
    from wire.errors import BadMessage
    from wire.message import Message, Place
    from wire.records import Event, Feedback

    settings = context.process()
    kind: type[Event | Feedback] = Event if record == "event" else Feedback
    topics = readings(settings.bus, [kind], settings.readers)
    # The last reading is the map's, if the topic is mapped.
    reading = list(topics.values())[-1]
    topic, *others = [name for name, other in topics.items() if other is reading]
    pairs = [text.partition("=") for text in headers or ()]
    message = Message(
        key=key.encode() or None, value=_value(file), headers=tuple((name, text.encode()) for name, _, text in pairs)
    )
    place = Place(topic=topic, partition=0, offset=0)
    shown: dict[str, Any] = {"topic": [topic, *others] if others else topic}
    try:
        record_made = reading.parse(message, place)
        if isinstance(record_made, Feedback):
            _check_label(settings, record_made)
        shown[record] = msgspec.to_builtins(record_made)
    except BadMessage as error:
        shown |= {"refused": error.reason, "detail": error.detail, "fix": FIXES[error.reason]}
    if reading.foreign is None and (ignored := _ignored(message, kind)):
        shown["ignored"] = ignored
    print(json.dumps(shown, indent=2))
    if "refused" in shown:
        raise typer.Exit(USAGE)


def _check_label(settings: "Settings", label: "Feedback") -> None:
    """Raises BadMessage if the learner of the label's task would refuse the label, as far as the settings tell."""
    from wire.label_set import LabelSet, check_label

    if label.task != settings.task:
        if label.task not in settings.tasks:
            # The label is of the default task, whose settings are not those of `--task`.
            return
        settings = settings.of_task(label.task)
    check_label(label.label_string, LabelSet(settings.labels), max_chars=settings.learner.max_label_chars)


def _value(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from error


def _ignored(message: "Message", kind: type) -> list[str]:
    """Returns the fields of a message that are not fields of ours, each with the one that may be meant."""
    from difflib import get_close_matches

    import msgspec

    known = [field.name for field in msgspec.structs.fields(kind)]
    try:
        body = msgspec.json.decode(message.value or b"")
    except (ValueError, RecursionError):
        return []
    unknown = [name for name in body if name not in known] if isinstance(body, dict) else []
    close = {name: get_close_matches(name, known, n=1) for name in unknown}
    return [f"{name} (did you mean {close[name][0]}?)" if close[name] else name for name in unknown]
