"""`lifelong predict` and `feedback`: ask for answers, and send back a label, over HTTP.

    predict --> POST /v1/predict        feedback --> POST /v1/feedback        with the API key, if one is set
    feedback --correct, without an API key --approved with a signing key--> feedback.v1

Neither needs the right to write to Kafka or a signing key. The source of a label is the name of the API key. Only a
correction needs someone who vouches for it: an administrator's API key, or a signing key.
"""

import json
from contextlib import closing
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo
from wire.timestamps import now_ms

if TYPE_CHECKING:
    from services.settings import Settings
    from wire.records import Feedback

TIMEOUT_S = 30.0

SENT: Final = ("event_id", "label", "labels", "value", "target", "key", "receipt", "event_source", "text", "task")
"""The fields of a label that the sender gives. The service adds the source and the time."""

LATER: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
"""Statuses below 500 after which the same request may succeed."""


class NoAnswer(RuntimeError):
    """The replicas did not answer, or refused the request."""


class NotTaken(NoAnswer):
    """The service refused the request, and would refuse it again."""


class KeyNotTaken(NoAnswer):
    """The API key is missing or unknown, or lacks the role that the request needs."""


@reads_settings
def predict(
    context: CliContext,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="Texts to classify")] = None,
    image: Annotated[
        Path | None, typer.Option("--image", exists=True, dir_okay=False, help="Picture of the event, a PNG")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option("--audio", exists=True, dir_okay=False, help="Sound of the event, a WAV")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the service for the label of each TEXT, by all tasks or by one. Example: lifelong predict "Card declined".

    With a picture or a sound, the text, if there is one, is of the same event.
    """
    from lifelong.media.parts import media_parts

    texts = texts or []
    parts = media_parts(image, audio)
    if len(texts) > 1 and parts:
        raise typer.BadParameter("give at most one TEXT with --image or --audio: together they are one event")
    if not texts and not parts:
        raise typer.BadParameter("give a TEXT, --image or --audio")
    settings = context.process()
    asked: dict[str, Any] = {"tasks": [settings.task]} if settings.task else {}
    asked |= {"parts": parts} if parts else {}
    events = [{"text": text, **asked} for text in texts or [""]]
    answers = post(_url(settings, "predict"), {"events": events}, _key(settings))["answers"]
    if as_json:
        print(json.dumps(answers, indent=2))
        return
    for answer in answers:
        echo(_answer_line(answer))
        for task, other in answer.get("tasks", {}).items():
            echo(_answer_line({**other, "event_id": f"task {task}"}))


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelOptions:
    """The fields of a label besides the event and its name."""

    receipt: Annotated[
        str, typer.Option("--receipt", help="Receipt of the answer, as `lifelong predict --json` shows it")
    ] = ""
    key: Annotated[str, typer.Option("--key", help="Key of the event, needed with --receipt")] = ""
    event_source: Annotated[
        str | None, typer.Option("--event-source", help="Source of the event, within which its id is unique")
    ] = None
    text: Annotated[
        str, typer.Option("--text", help="Text of the event, needed if its answer no longer waits for a label")
    ] = ""


@reads_settings
def feedback(
    context: CliContext,
    event_id: Annotated[str, typer.Argument(help="Id of the event that was answered")],
    options: LabelOptions,
    labels: Annotated[list[str] | None, typer.Argument(metavar="LABEL...", help="The correct label")] = None,
    correct: Annotated[
        bool, typer.Option("--correct", help="Replace an earlier label of the event; you vouch for the new one")
    ] = False,
    none: Annotated[bool, typer.Option("--none", help="No label of the set applies to the event")] = False,
) -> None:
    """Send the correct label of an event to the learner. Example: lifelong feedback EVENT_ID card_declined.

    If events have sets of labels, give all labels of the event, or --none. The label's source is the name of your API
    key, or your address if the service requires no key. Without an API key, a signing key vouches for --correct.
    """
    from wire.kinds import render
    from wire.records import Feedback

    if correct and options.event_source is None:
        raise typer.BadParameter("name the source of the event: --event-source http for events over HTTP")
    settings = context.process()
    label = _label_fields(labels or [], settings.labels.kind, has_none=none)
    record = Feedback(event_id=event_id, task=settings.task, **asdict(options), **label)
    if correct and settings.api_key is None:
        if settings.store.url and settings.signing_key is None:
            raise KeyNotTaken("a correction needs an administrator's LIFELONG_API_KEY, or LIFELONG_SIGNING_KEY_FILE")
        _send_approved(context.attached(), record)
    else:
        body = {name: getattr(record, name) for name in SENT}
        post(_url(settings, "feedback"), {**body, "correct": correct}, _key(settings))
    echo(f"{event_id} is {render(record.label_string)!r}: sent to the learner")


def _send_approved(settings: "Settings", record: "Feedback") -> None:
    """Approves a label with the signing key, and sends it to Kafka."""
    import msgspec

    from services.keys import key_ring
    from wire.bus import Bus
    from wire.receipts import Receipts

    record = msgspec.structs.replace(record, source="command line", time_ms=now_ms())
    with closing(Bus(settings.bus, client_id="feedback")) as bus:
        bus.publisher().send_all([Receipts(*key_ring(settings).receipts).approved(record)], TIMEOUT_S)


def _url(settings: "Settings", endpoint: str) -> str:
    """Returns the URL of an endpoint of the service that runs here, or else of the one that the settings name."""
    from services.running import HTTP, read_announcement

    host, port = settings.serving.http_host, settings.serving.http_port
    is_ours = not (settings.store.url and settings.bus.bootstrap_servers)
    if is_ours and (announced := read_announcement(settings.state_dir)) is not None:
        host, port = (announced[name] for name in HTTP)
    return f"http://{host}:{port}/v1/{endpoint}"


def _key(settings: "Settings") -> str:
    return settings.api_key.get_secret_value() if settings.api_key else ""


def _label_fields(labels: list[str], kind: str, *, has_none: bool) -> dict[str, Any]:
    """Returns the field of the label that these words mean. Raises BadParameter if they mean no label of this kind."""
    from wire.errors import BadMessage
    from wire.kinds import KINDS, field_with

    if has_none == bool(labels):
        raise typer.BadParameter("name the label of the event, or give --none if no label of the set applies")
    label_kind = KINDS.get(kind)
    try:
        value = label_kind.from_text(labels[0]) if len(labels) == 1 else label_kind.from_value(labels)
    except BadMessage as error:
        raise typer.BadParameter(f"{error.detail}; labels.kind is {kind}") from None
    return field_with(label_kind, value)


def _answer_line(answer: dict[str, Any]) -> str:
    """Returns one line about an answer, with the event id at the end for `lifelong feedback`."""
    if "error" in answer:
        return f"(refused)  {answer['error']['code']}: {answer['error']['message']}"
    label = ", ".join(answer["labels"]) or "(none)" if "labels" in answer else answer["label"]
    label = f"{answer['value']:g}" if "value" in answer else label
    if "output" in answer:
        label = json.dumps({name: value for name, value in answer["output"].items() if name != "kind"})
    label = "(nothing was learnt yet)" if label is None else label
    return f"{label}  {answer['score']:.2f}  version {answer['weights_version']}, {answer['arm']}  {answer['event_id']}"


def post(url: str, body: dict[str, Any], key: str) -> dict[str, Any]:
    """Returns the reply to a JSON body that is posted with an API key ("": no key). Raises NoAnswer or a subclass."""
    import urllib.error
    import urllib.request

    headers = {"content-type": "application/json", "x-api-key": key}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer
    except urllib.error.HTTPError as error:
        raise _refusal(url, error.code, error.read(2_000).decode(errors="replace")) from None
    except (OSError, ValueError) as error:
        fix = "is `lifelong up` running? serving.http_host and serving.http_port name a service elsewhere"
        raise NoAnswer(f"{url} did not answer: {error}; {fix}") from None


def _refusal(url: str, status: int, body: str) -> NoAnswer:
    """Returns the error for a response: it quotes the service's error message, or else the body."""
    try:
        problem = json.loads(body)["error"]
        message = f"{url} refused: {problem['code']}: {problem['message']}"
    except (ValueError, LookupError, TypeError):
        message = f"{url} refused: {status} {body}"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return KeyNotTaken(f"{message}. Set LIFELONG_API_KEY; `lifelong keys create NAME --role ...` makes a key")
    is_final = status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in LATER
    return NotTaken(message) if is_final else NoAnswer(message)
