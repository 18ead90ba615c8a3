"""Logging of every process: one event a line with its fields, to standard error, with secrets redacted.

Strings of others, such as an id that a client has chosen, are shown by `printable`, here and by the commands, so that
they can write nothing else on a terminal.
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
"""What is shown in the place of a secret: the mask of pydantic's SecretStr, so that there is one."""

SILENT = ("kafka",)
"""Loggers of libraries that write several lines a second while a server is away. Our clients log what matters."""

_BEGINNING: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def printable(text: str, *, keep: str = "") -> str:
    r"""Returns the text with every character that a terminal obeys, or cannot show, as JSON escapes it, but for `keep`.

    These are control characters, line breaks, marks that turn the direction of writing, and halves of surrogates.

    >>> print(printable("e\x1b[2K\r\x07 é"))
    e\u001b[2K\r\u0007 é
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else json.dumps(each)[1:-1] for each in text)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The level and the format of the log. `secrets` are replaced wherever they would be written."""

    level: LogLevel = "info"
    as_json: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)


def configure(config: LogConfig, *, stream: TextIO = sys.stderr) -> None:
    """Sets up structlog, and the standard library's logging for the libraries that use it (warnings and above)."""
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
    """Returns the formatter of libraries' lines, for a handler of the standard library: as ours, and as redacted."""
    processors = [ProcessorFormatter.remove_processors_meta, *_ending(config, colors=colors)]
    return ProcessorFormatter(foreign_pre_chain=_BEGINNING, processors=processors)


def secrets_in(value: object) -> tuple[str, ...]:
    """Returns every secret (SecretStr) in a setting, a dataclass or a sequence, at any depth."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        lines = secret.splitlines()  # a list of keys is shown line by line, if at all
        return (secret, *lines) if len(lines) > 1 else (secret,) if secret else ()
    if dataclasses.is_dataclass(value):
        parts: Iterable[object] = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        parts = value if isinstance(value, tuple | list) else ()
    return tuple(chain.from_iterable(map(secrets_in, parts)))


def without_password(text: str) -> str:
    """Returns `text` with the user name and password of every address in it hidden.

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
    """Escapes what a terminal would obey; an exception keeps its lines."""
    return {
        key: printable(value, keep="\n" if key == "exception" else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


def _redacted(value: object, secrets: tuple[str, ...]) -> object:
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, HIDDEN)
    return without_password(value)
