"""Tests logging: one event a line from every library, at the configured level, without secrets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from pydantic import SecretStr

from wire.logs import HIDDEN, SILENT, LogConfig, configure

SECRET = "correct-horse-battery"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Yields a stream to log to, and restores the logging configuration afterwards."""
    loggers = [logging.getLogger(name) for name in (None, *SILENT)]
    levels = [logger.level for logger in loggers]
    yield io.StringIO()
    logging.getLogger().handlers.clear()
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    structlog.reset_defaults()


def split_lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_json_has_one_line_for_each_event_of_ours_and_of_libraries(stream: io.StringIO) -> None:
    configure(LogConfig(as_json=True), stream=stream)
    structlog.get_logger("one").info("swapped", revision=3)
    logging.getLogger("a.library").warning("it is %s", "late")
    ours, theirs = map(json.loads, split_lines(stream))
    assert (ours["event"], ours["revision"], ours["level"]) == ("swapped", 3, "info")
    assert (theirs["event"], theirs["level"]) == ("it is late", "warning")


def test_nothing_below_the_level_is_written(stream: io.StringIO) -> None:
    configure(LogConfig(level="warning"), stream=stream)
    log = structlog.get_logger("two")
    log.info("said")
    log.warning("warned")
    (line,) = split_lines(stream)
    assert "warned" in line


def test_there_is_one_mask() -> None:
    assert str(SecretStr("canary")) == HIDDEN


@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_and_passwords_are_hidden_everywhere(stream: io.StringIO, as_json: bool) -> None:
    configure(LogConfig(as_json=as_json, secrets=(SECRET,)), stream=stream)
    try:
        raise ValueError(f"no user with {SECRET}")
    except ValueError as error:
        structlog.get_logger("three").error("failed", detail=f"<{SECRET}>", exc_info=error)
        logging.getLogger("a.library").error("of redis://me:hush@host with %s", SECRET, exc_info=error)
    written = stream.getvalue()
    assert "ValueError" in written
    assert SECRET not in written
    assert "hush" not in written


def test_the_configuration_does_not_show_its_secrets() -> None:
    assert SECRET not in repr(LogConfig(secrets=(SECRET,)))


def test_strings_from_outside_cannot_control_a_terminal(stream: io.StringIO) -> None:
    """N20: a logged name may have escape sequences and line breaks; an exception keeps its lines."""
    configure(LogConfig(), stream=stream)
    try:
        raise ValueError("lost")
    except ValueError as error:
        structlog.get_logger("four").error("spoofed\x1b[2K", id="e\x1b]0;owned\x07\nall is well", exc_info=error)
    written = stream.getvalue()
    assert "\x1b" not in written and "\x07" not in written
    assert "spoofed" in split_lines(stream)[0] and "all is well" in split_lines(stream)[0]
    assert "ValueError: lost" in split_lines(stream)
