"""How every process of ours logs: one event a line with its fields, to standard error, without secrets."""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from services.schema import HIDDEN, without_password


def configure(level: str, *, as_json: bool, secrets: tuple[str, ...] = (), stream: TextIO = sys.stderr) -> None:
    """Sets up structlog, and the standard library's logging for the libraries that use it (warnings and worse)."""

    def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {key: _redacted(value, secrets) for key, value in event.items()}

    renderer: Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=stream, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def _redacted(value: object, secrets: tuple[str, ...]) -> object:
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, HIDDEN)
    return without_password(value)
