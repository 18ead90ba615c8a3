"""The network client of kafka-python with two fixes: reconnecting to a broker that is away backs off.

In 3.0.12 a connection that was accepted and then lost, before any response on it, counts as a success. So a proxy in
front of a broker that is away is connected to in a busy loop. Also, the producer asks for the delay of a node in
milliseconds and gets seconds, and no delay at all while the connection is made. Each of the two bugs takes a whole core
of a machine on which other processes have to answer, among them the restarting broker.
"""

from typing import Any

from kafka.net.compat import KafkaNetClient  # type: ignore[import-untyped]
from kafka.net.manager import KafkaConnectionManager  # type: ignore[import-untyped]
from kafka.net.selector import NetworkSelector  # type: ignore[import-untyped]

CONNECTING_MS = 100.0
"""Longest wait of a producer while a connection is made. An event of the connection ends the wait."""


class Client(KafkaNetClient):  # type: ignore[misc]
    """The network client of consumers and of the admin client."""

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        super().__init__(net=net, manager=_Manager(net, **configs), **configs)


class ProducerClient(Client):
    """The network client of the producer."""

    def connection_delay(self, node_id: int) -> float:
        """Returns the milliseconds until the node can be connected or sent to."""
        connection = self._manager._conns.get(node_id)
        if connection is not None and not connection.connected:
            return CONNECTING_MS
        return float(1e3 * self._manager.connection_delay(node_id))


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    async def _connect(self, node: Any, conn: Any, **options: Any) -> None:
        """Connects. A connection without any response counts as one more failure for the back-off."""
        before = self._backoff.get(node.node_id)
        await super()._connect(node, conn, **options)
        if not conn.connected and node.node_id not in self._backoff:
            if before is not None:
                self._backoff[node.node_id] = before
            self.update_backoff(node.node_id)
