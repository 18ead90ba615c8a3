"""The iterations over answers that one client has open. It imports the client of Kafka when the first one begins."""

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lifelong.answer_stream import AnswerStream  # with the client of Kafka, which few need


class Streams:
    """Opens streams of answers, and closes those that are still in use."""

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._opened: weakref.WeakSet[AnswerStream] = weakref.WeakSet()

    def open(self, bus: Mapping[str, Any], begin: str, idle_s: float | None) -> "AnswerStream":
        """Returns a new stream. Raises ValueError for wrong settings, and ClientError."""
        from lifelong.answer_stream import AnswerStream, bus_config

        stream = AnswerStream(bus_config(bus), begin, patience_s=self._patience_s, idle_s=idle_s)
        self._opened.add(stream)
        return stream

    def close(self) -> None:
        """Ends the iterations, from any thread."""
        for stream in list(self._opened):
            stream.close()
