"""The identity of each topic's log: its topic id. A recreated topic has a new one, and its offsets start again at 0.

Kafka assigns an id to every topic at its creation, since 2.8; Tansu, which stores nothing, assigns new ids at every
start. The metadata of a consumer has these ids. It is refreshed every few seconds, and after a lost connection. Records
that were fetched meanwhile are held until then, so that no record is attributed to a log that is gone.

Rejected: the id of the cluster (Tansu's is always the same, and a topic can be recreated in one cluster), and the time
of the first record (it is lost when the record expires).
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

REFRESH_TIMEOUT_MS = 2_000


class TopicLogs:
    """The ids of the topics that one consumer reads, as `kafka-topics.sh --describe` shows them."""

    def __init__(self, consumer: Any, known: Mapping[str, str]) -> None:
        self._consumer = consumer
        self._known = {topic: log for topic, log in known.items() if log}

    @property
    def known(self) -> dict[str, str]:
        """The id of the log that is read, by topic; absent where the broker does not tell."""
        return dict(self._known)

    def of(self, topic: str) -> str:
        return self._known.get(topic, "")

    def adopt(self, topic: str) -> None:
        """Makes the current log of `topic` the one that is read."""
        self._known.pop(topic, None)
        self.recreated([topic])

    def recreated(self, topics: Iterable[str]) -> list[str]:
        """Returns those of `topics` that have another log than before; remembers the logs of those that had none."""
        recreated = []
        for topic in topics:
            log = self._log(topic)
            if log and self._known.setdefault(topic, log) != log:
                recreated.append(topic)
        return recreated

    def refresh(self) -> None:
        """Waits until the metadata is newer than the last lost connection. Raises the client's errors."""
        cluster = self._consumer._cluster
        if cluster.need_update:
            manager = self._consumer._manager
            self._consumer._net.run(manager.wait_for, cluster.request_update(), REFRESH_TIMEOUT_MS)

    def _log(self, topic: str) -> str:
        topic_id = self._consumer._cluster.topic_id(topic)
        if topic_id is None or topic_id.int == 0:
            return ""
        return base64.urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()
