"""How every process of ours logs: one event a line with its fields, to standard error, without secrets."""

import dataclasses
import logging
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TextIO

import structlog
from pydantic import SecretStr
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "***"

SILENT = ("kafka",)
"""Libraries that write several lines a second while a server is away. Their door says what matters."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is logged, and how. `secrets` are hidden wherever they would be written."""

    level: str = "info"
    as_json: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)


def configure(config: LogConfig, *, stream: TextIO = sys.stderr) -> None:
    """Sets up structlog, and the standard library's logging for the libraries that use it (warnings and worse)."""

    def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {key: _redacted(value, config.secrets) for key, value in event.items()}

    beginning: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    ending: list[Processor] = [
        redact,
        structlog.processors.JSONRenderer()
        if config.as_json
        else structlog.dev.ConsoleRenderer(colors=stream.isatty()),
    ]
    structlog.configure(
        processors=[*beginning, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[config.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    foreign = logging.StreamHandler(stream)
    foreign.setFormatter(
        ProcessorFormatter(foreign_pre_chain=beginning, processors=[ProcessorFormatter.remove_processors_meta, *ending])
    )
    logging.basicConfig(level=logging.WARNING, handlers=[foreign], force=True)
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def secrets_in(value: object) -> tuple[str, ...]:
    """The secrets that a setting, or a configuration with all that is in it, holds: whatever is a SecretStr."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return (secret,) if secret else ()
    if dataclasses.is_dataclass(value):
        parts: Iterable[object] = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        parts = value if isinstance(value, tuple | list) else ()
    return tuple(secret for part in parts for secret in secrets_in(part))


def without_password(text: str) -> str:
    """Hides the user and password in an address.

    >>> without_password("redis://me:hush@host:6379/0")
    'redis://***@host:6379/0'
    >>> without_password("unix:///run/redis.sock?db=1&password=hush")
    'unix:///run/redis.sock?db=1&password=***'
    """
    hidden = re.sub(r"://[^@/\s]*@", f"://{HIDDEN}@", text)
    return re.sub(r"([?&](?:username|password)=)[^&\s]*", rf"\g<1>{HIDDEN}", hidden)


def _redacted(value: object, secrets: tuple[str, ...]) -> object:
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, HIDDEN)
    return without_password(value)
