"""Which log a topic has. A topic that is made anew has another one: its offsets begin again, and mean other records.

Kafka gives every topic an id when it is made, since 2.8; Tansu, which keeps nothing, gives new ones at every start. The
metadata that a consumer has names them. It is renewed every few seconds, and when a connection was lost; what was
fetched meanwhile is held until then, so that nothing is read under the name of a log that is gone.

Rejected: the id of the cluster (Tansu's is always the same, and a topic can be made anew without its cluster), and the
time of the first record (it goes when the record expires).
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

REFRESH_TIMEOUT_MS = 2_000


class TopicLogs:
    """The logs of the topics that one consumer reads, by the names that `kafka-topics.sh --describe` gives them."""

    def __init__(self, consumer: Any, known: Mapping[str, str]) -> None:
        self._consumer = consumer
        self._known = {topic: log for topic, log in known.items() if log}

    @property
    def known(self) -> dict[str, str]:
        """By topic: the log that its records are read from. Absent where the broker does not say."""
        return dict(self._known)

    def of(self, topic: str) -> str:
        return self._known.get(topic, "")

    def adopt(self, topic: str) -> None:
        """Takes the log that `topic` has now for the one that is read."""
        self._known.pop(topic, None)
        self.made_anew([topic])

    def made_anew(self, topics: Iterable[str]) -> list[str]:
        """Those of `topics` that have another log than before; remembers the logs of those that had none."""
        anew = []
        for topic in topics:
            log = self._log(topic)
            if log and self._known.setdefault(topic, log) != log:
                anew.append(topic)
        return anew

    def refresh(self) -> None:
        """Waits until the metadata is newer than the last connection that was lost. Raises what the client raises."""
        cluster = self._consumer._cluster
        if cluster.need_update:
            manager = self._consumer._manager
            self._consumer._net.run(manager.wait_for, cluster.request_update(), REFRESH_TIMEOUT_MS)

    def _log(self, topic: str) -> str:
        topic_id = self._consumer._cluster.topic_id(topic)
        if topic_id is None or topic_id.int == 0:
            return ""
        return base64.urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()
