"""`lifelong predict` and `feedback`: one event in, and one label back."""

import json
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from wire.clock import now_ms

TIMEOUT_S = 30.0


class NoAnswer(RuntimeError):
    """The replicas did not answer, or refused the request."""


@reads_settings
def predict(
    context: CliContext,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Texts to answer")],
    as_json: JsonOption = False,
) -> None:
    """Answer each TEXT over HTTP, by all tasks, or by one."""
    settings = context.attached()
    serving = settings.serving
    url = f"http://{serving.http_host}:{serving.http_port}/v1/predict"
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    asked = {"tasks": [settings.task]} if settings.task else {}
    answers = post(url, {"events": [{"text": text, **asked} for text in texts]}, key)["answers"]
    if as_json:
        print(json.dumps(answers, indent=2))
        return
    for answer in answers:
        print(_answer_line(answer))
        for task, other in answer.get("tasks", {}).items():
            print(_answer_line({**other, "event_id": f"task {task}"}))


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelOptions:
    """What is said of a label besides its event and its name."""

    source: Annotated[str, typer.Option("--source", help="Who says so")] = "command line"
    receipt: Annotated[str, typer.Option("--receipt", help="That of the answer; `predict --json` shows it")] = ""
    key: Annotated[str, typer.Option("--key", help="That of the event, beside its receipt")] = ""
    event_source: Annotated[
        str | None, typer.Option("--event-source", help="That of the event: an id is unique within it")
    ] = None
    text: Annotated[str, typer.Option("--text", help="That of the event, where its answer no longer waits")] = ""


@reads_settings
def feedback(
    context: CliContext,
    event_id: Annotated[str, typer.Argument(help="The event that was answered")],
    options: LabelOptions,
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="LABEL...", help="What the answer should have been")
    ] = None,
    correct: Annotated[
        bool, typer.Option("--correct", help="It replaces an earlier label of the event; you vouch for it")
    ] = False,
    none: Annotated[bool, typer.Option("--none", help="The event has no label of the set")] = False,
) -> None:
    """Tell the learner the label of an event; where events have sets of labels, all of them, or --none."""
    from services.keys import ring_of
    from wire.bus import Bus
    from wire.label_set import with_target
    from wire.receipts import Receipts
    from wire.records import Feedback
    from wire.targets import shown_label

    if correct and options.event_source is None:
        raise typer.BadParameter("name the source of the event: --event-source http for events over HTTP")
    target = _target(labels or [], context.load().settings.labels.kind, has_none=none)
    settings = context.attached()
    record = with_target(Feedback(event_id=event_id, time_ms=now_ms(), task=settings.task, **asdict(options)), target)
    if correct:
        record = Receipts(*ring_of(settings).receipts).approved(record)
    with closing(Bus(settings.bus, client_id="feedback")) as bus:
        bus.publisher().send_all([record], TIMEOUT_S)
    print(f"{event_id} is {shown_label(target)!r}: sent to the learner")


def _target(labels: list[str], kind: str, *, has_none: bool) -> str:
    """Returns what the label says, as one string. Raises BadParameter where it is not one of this kind."""
    from wire.targets import sent_value, set_of

    if kind == "score":
        try:
            (value,) = map(float, labels)
        except ValueError:
            raise typer.BadParameter("name one number: labels.kind is score") from None
        return sent_value(value)
    if kind == "multilabel":
        if has_none == bool(labels):
            raise typer.BadParameter("name the labels of the event, or give --none where it has none")
        return set_of(labels)
    if has_none or len(labels) != 1:
        raise typer.BadParameter("name one label: labels.kind is class")
    return labels[0]


def _answer_line(answer: dict[str, Any]) -> str:
    """Returns an answer as one line, with its event id at the end, for `lifelong feedback`."""
    if "error" in answer:
        return f"(refused)  {answer['error']['code']}: {answer['error']['message']}"
    label = ", ".join(answer["labels"]) or "(none)" if "labels" in answer else answer["label"]
    label = f"{answer['value']:g}" if "value" in answer else label
    label = "(nothing was learnt yet)" if label is None else label
    return f"{label}  {answer['score']:.2f}  version {answer['weights_version']}, {answer['arm']}  {answer['event_id']}"


def post(url: str, body: dict[str, Any], key: str) -> dict[str, Any]:
    """Returns the reply to a JSON body, of a client with an API key ("": none). Raises NoAnswer."""
    import urllib.error
    import urllib.request

    headers = {"content-type": "application/json", "x-api-key": key}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer
    except urllib.error.HTTPError as error:
        raise NoAnswer(f"{url} refused: {error.code} {error.read(2_000).decode(errors='replace')}") from None
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{url} did not answer: {error}; is `lifelong up` running?") from None
