"""The logging of every process: one event and its fields on each line, to standard error, with secrets redacted.

Strings from outside, such as an id that a client has chosen, are escaped by `printable`, here and in the commands, so
that they cannot control a terminal.
"""

import dataclasses
import json
import logging
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Literal, TextIO, TypeAlias

import structlog
from pydantic import SecretStr
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

HIDDEN = "**********"
"""The text that replaces a secret. It is the same as the mask of pydantic's SecretStr."""

SILENT = ("kafka",)
"""Loggers of libraries that write several lines a second while a server is unreachable. Our clients log these
errors."""

_BEGINNING: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def printable(text: str, *, keep: str = "") -> str:
    r"""Escapes, as JSON does, every character of a text that a terminal obeys or cannot show, except those in `keep`.

    These are control characters, line breaks, marks that change the writing direction, and lone surrogates.

    >>> print(printable("e\x1b[2K\r\x07 é"))
    e\u001b[2K\r\u0007 é
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else json.dumps(char)[1:-1] for char in text)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The level and the format of the log. All occurrences of `secrets` are redacted."""

    level: LogLevel = "info"
    as_json: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)


def configure(config: LogConfig, *, stream: TextIO = sys.stderr) -> None:
    """Sets up structlog, and standard logging for the libraries that use it (warnings and above)."""
    colors = stream.isatty()
    structlog.configure(
        processors=[*_BEGINNING, *_ending(config, colors=colors)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[config.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    foreign = logging.StreamHandler(stream)
    foreign.setFormatter(formatter(config, colors=colors))
    logging.basicConfig(level=logging.WARNING, handlers=[foreign], force=True)
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def formatter(config: LogConfig, *, colors: bool = False) -> ProcessorFormatter:
    """Returns a formatter for handlers of standard logging: libraries' lines look like ours, and are redacted."""
    processors = [ProcessorFormatter.remove_processors_meta, *_ending(config, colors=colors)]
    return ProcessorFormatter(foreign_pre_chain=_BEGINNING, processors=processors)


def secrets_in(value: object) -> tuple[str, ...]:
    """Returns all secrets (SecretStr) in a setting, a dataclass or a sequence, at any depth."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        if not secret:
            return ()
        # The keys in a list of keys would be shown line by line.
        lines = secret.splitlines()
        return (secret, *lines) if len(lines) > 1 else (secret,)
    if dataclasses.is_dataclass(value):
        parts: Iterable[object] = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        parts = value if isinstance(value, tuple | list) else ()
    return tuple(chain.from_iterable(map(secrets_in, parts)))


def without_password(text: str) -> str:
    """Redacts the user name and the password of every address in a text.

    >>> without_password("redis://me:hush@host:6379/0")
    'redis://**********@host:6379/0'
    >>> without_password("unix:///run/redis.sock?db=1&password=hush")
    'unix:///run/redis.sock?db=1&password=**********'
    """
    hidden = re.sub(r"://[^@/\s]*@", f"://{HIDDEN}@", text)
    return re.sub(r"([?&](?:username|password)=)[^&\s]*", rf"\g<1>{HIDDEN}", hidden)


def _ending(config: LogConfig, *, colors: bool) -> list[Processor]:
    def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {key: _redacted(value, config.secrets) for key, value in event.items()}

    if config.as_json:
        return [redact, structlog.processors.JSONRenderer()]
    return [redact, _printable, structlog.dev.ConsoleRenderer(colors=colors)]


def _printable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escapes the strings of an event for a terminal. An exception keeps its line breaks."""
    shown: dict[str, object] = {}
    for key, value in event.items():
        keep = "\n" if key == "exception" else ""
        shown[key] = printable(value, keep=keep) if isinstance(value, str) else value
    return shown


def _redacted(value: object, secrets: tuple[str, ...]) -> object:
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, HIDDEN)
    return without_password(value)
