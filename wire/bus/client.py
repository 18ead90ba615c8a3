"""The network client of kafka-python, mended: what connects to a broker that is away waits between its attempts.

In 3.0.12 a connection that was taken and then lost, before anything was answered on it, counts as a success: a proxy in
front of a broker that is away is connected to again at once, and again. And the producer asks how many milliseconds to
wait for a node, is told seconds, and not at all while it connects. Each of the two takes a whole core of a machine
where others have to answer, the broker that starts again among them.
"""

from typing import Any

from kafka.net.compat import KafkaNetClient  # type: ignore[import-untyped]
from kafka.net.manager import KafkaConnectionManager  # type: ignore[import-untyped]
from kafka.net.selector import NetworkSelector  # type: ignore[import-untyped]

CONNECTING_MS = 100.0
"""How long a producer rests at most while a connection is being made. What happens to the connection ends the rest."""


class Client(KafkaNetClient):  # type: ignore[misc]
    """For consumers and the admin client."""

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        super().__init__(net=net, manager=_Manager(net, **configs), **configs)


class ProducerClient(Client):
    """For the producer."""

    def connection_delay(self, node_id: int) -> float:
        """Milliseconds until there is something to do for the node."""
        connection = self._manager._conns.get(node_id)
        if connection is not None and not connection.connected:
            return CONNECTING_MS
        return float(1e3 * self._manager.connection_delay(node_id))


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    async def _connect(self, node: Any, conn: Any, **options: Any) -> None:
        """Connects. Where nothing answered on the connection, it is one failure more."""
        before = self._backoff.get(node.node_id)
        await super()._connect(node, conn, **options)
        if not conn.connected and node.node_id not in self._backoff:
            if before is not None:
                self._backoff[node.node_id] = before
            self.update_backoff(node.node_id)
