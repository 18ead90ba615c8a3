"""`lifelong import`: teaches the learner labelled texts of the past, from a file or standard input, without answers."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.exits import USAGE
from services.commands.exported import import_model
from services.commands.output import echo

if TYPE_CHECKING:
    from services.history.labeller import SourceRow
    from services.history.sending import BookmarkFile, HistorySender
    from services.settings import Settings
    from wire.errors import BadMessage

SHOWN = 20
"""Number of refused rows that are shown; `--refused` writes all of them."""


def _maps(texts: list[str] | None) -> list[str] | None:
    """Returns the values of `--map`. Raises BadParameter if one is not FIELD=TEMPLATE."""
    for text in texts or ():
        if "=" not in text:
            raise typer.BadParameter(f"{text!r} has no template. Write --map FIELD=TEMPLATE, such as text='{{body}}'")
    return texts


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """How the rows are read, and what happens to rows that were sent before."""

    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=TEMPLATE",
            help="Template of text, label, id, source, key or time_ms, as in text='{subject?} {body}'; repeatable",
            callback=_maps,
        ),
    ] = None
    form: Annotated[
        Literal["jsonl", "csv", "tsv", "parquet"] | None,
        typer.Option("--format", help="Format of the rows [default: by the name of FILE; - is jsonl]"),
    ] = None
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="A version that `lifelong export` wrote")
    ] = None
    source: Annotated[str, typer.Option("--source", help="Source of the labels")] = "history"
    refused: Annotated[
        Path | None, typer.Option("--refused", metavar="FILE", help="File for the refused rows, one JSON object a line")
    ] = None
    restart: Annotated[bool, typer.Option("--restart", help="Send all rows, including rows sent before")] = False
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="Longest time to wait for a version with them")
    ] = 0.0

    def templates(self) -> dict[str, str]:
        pairs = [text.partition("=") for text in self.maps or ()]
        return {name.strip(): template for name, _, template in pairs}


@reads_settings
def import_(
    context: CliContext,
    options: ImportOptions,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE|-", help="Rows with text and label; - reads standard input")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Teach the learner the labelled texts of FILE. You vouch for them. Example: lifelong import tickets.csv

    It needs no answers to these texts. If an earlier import was stopped, or if the file has grown, it continues after
    the last row that was sent. Exits with 2 if rows were refused. With --model, a version that `lifelong export` wrote
    becomes the candidate instead.
    """
    import json

    if options.model is not None and file is None:
        import_model(context, options.model, as_json=as_json)
        return
    if file is None or options.model is not None:
        raise typer.BadParameter("name a FILE of labelled texts, or --model DIR")
    result: dict[str, Any] = {}
    with _refusals(options.refused) as refusals:
        try:
            result |= _import_rows(context, file, options, refusals)
        finally:
            refusals.end(is_listed=not as_json)
    if as_json:
        print(json.dumps(result | {"refused_rows": refusals.first}, indent=2))
    else:
        echo(_sentence(result))
    if refusals.number:
        raise typer.Exit(USAGE)


@dataclass
class RefusedRows:
    """Collects the refused rows: the first few in memory, and all of them in `file`."""

    file: BinaryIO | None
    first: list[dict[str, str]] = field(default_factory=list)
    number: int = 0

    def add(self, row: "SourceRow", error: "BadMessage") -> None:
        """Adds a row with its place, the reason and the fix."""
        import json

        from services.history.labeller import FIXES

        refusal = {"place": row.place, "reason": error.reason, "detail": error.detail, "fix": FIXES[error.reason]}
        self.number += 1
        if len(self.first) < SHOWN:
            self.first.append(refusal)
        if self.file is not None:
            self.file.write(json.dumps(refusal | {"row": row.raw.decode(errors="replace")}).encode() + b"\n")

    def end(self, *, is_listed: bool) -> None:
        """Shows the first refused rows, one a line."""
        for refusal in self.first if is_listed else ():
            echo(f"{refusal['place']}: {refusal['reason']}: {refusal['detail']}. Fix: {refusal['fix']}", is_error=True)
        if is_listed and self.number > len(self.first):
            hint = f"in {self.file.name}" if self.file else "--refused FILE writes all of them"
            echo(f"... and {self.number - len(self.first)} more rows ({hint})", is_error=True)


@contextmanager
def _refusals(path: Path | None) -> Iterator[RefusedRows]:
    if path is None:
        yield RefusedRows(None)
        return
    try:
        with path.open("wb") as file:
            yield RefusedRows(file)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}") from error


def _import_rows(context: CliContext, file: str, options: ImportOptions, refusals: RefusedRows) -> dict[str, Any]:
    """Sends the file, and returns the numbers to print. Maps and file are checked before any server is contacted."""
    from services.history.labeller import BadHistory, RowLabeller, RowMaps, detect_format, read_rows
    from services.history.sending import await_version
    from services.programs import open_store
    from wire.label_set import LabelSet

    path = None if file == "-" else Path(file).absolute()
    form = options.form or detect_format(path)
    if path is None and form == "parquet":
        raise BadHistory("Parquet is read from its end, so it cannot come from standard input: name the file")
    maps = RowMaps.of(options.templates())
    with ExitStack() as opened:
        opened_file = sys.stdin.buffer if path is None else opened.enter_context(_opened(path))
        settings = context.attached()
        bookmarks = _bookmarks(settings, file if path is None else str(path), form, options)
        store = opened.enter_context(closing(open_store(settings)))
        sending = opened.enter_context(_sending(settings, refusals))
        labelled = RowLabeller(
            maps,
            LabelSet.of(settings.labels, store.labels.requested()),
            source=options.source,
            max_label_chars=settings.learner.max_label_chars,
            is_table=form != "jsonl",
            task=settings.task,
        )
        try:
            before, after = sending.send(read_rows(opened_file, form), labelled, bookmarks)
        except BadHistory as error:
            raise BadHistory(f"{file}: {error}") from error
        result: dict[str, Any] = {
            "rows": after.rows,
            "sent": after.sent - before.sent,
            "sent_before": before.sent,
            "refused": after.refused,
        }
        if options.wait_s and after.sent:
            result["version"] = await_version(sending.bus, store, timeout_s=options.wait_s)
    return result


def _bookmarks(settings: "Settings", name: str, form: str, options: ImportOptions) -> "BookmarkFile":
    """Returns the bookmark file of this import, which tells which rows were sent; it is empty after `--restart`."""
    from services.history.sending import BookmarkFile

    task = (settings.task,) if settings.task else ()
    bookmarks = BookmarkFile(settings.state_dir, name, form, options.source, *(options.maps or ()), *task)
    if options.restart:
        bookmarks.remove()
    return bookmarks


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield file


@contextmanager
def _sending(settings: "Settings", refusals: RefusedRows) -> "Iterator[HistorySender]":
    from services.commands.output import progress
    from services.history.sending import HistorySender
    from services.keys import key_ring
    from wire.bus import Bus
    from wire.receipts import Receipts

    receipts = Receipts(*key_ring(settings).receipts)
    with closing(Bus(settings.bus, client_id="import")) as bus, progress() as show:
        yield HistorySender(bus=bus, receipts=receipts, on_refused=refusals.add, show=show)


def _sentence(result: dict[str, Any]) -> str:
    parts = [f"{result['sent']} labelled texts: sent to the learner"]
    if result["sent_before"]:
        parts.append(f"{result['sent_before']} were sent before")
    if result["refused"]:
        reasons = ", ".join(f"{num} {reason}" for reason, num in sorted(result["refused"].items()))
        parts.append(f"refused: {reasons}")
    if result.get("version"):
        parts.append(f"version {result['version']} knows them")
    return "; ".join(parts)
