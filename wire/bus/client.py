"""The network client of kafka-python, fixed: it backs off from a broker that is away, and tells why there is none.

In 3.0.12 a connection that was accepted and then lost, before any response on it, counts as a success. So a proxy in
front of a broker that is away is connected to in a busy loop. Also, the producer asks for the delay of a node in
milliseconds and gets seconds, and no delay at all while the connection is made. Each of the two bugs takes a whole core
of a machine on which other processes have to answer, among them the restarting broker.

Where no connection can be made for the first time, it says only that the time was over. `failures` are the reasons of
the last attempts: a wrong password or certificate is none that time mends. What a broker says before it hangs up is
lost in 3.0.12 where both are read at once, so that a refusal would seem to be an outage.
"""

from collections import deque
from typing import Any

from kafka.net.compat import KafkaNetClient  # type: ignore[import-untyped]
from kafka.net.manager import KafkaConnectionManager  # type: ignore[import-untyped]
from kafka.net.selector import NetworkSelector  # type: ignore[import-untyped]

CONNECTING_MS = 100.0
"""Longest wait of a producer while a connection is made. An event of the connection ends the wait."""

KEPT_FAILURES = 8
"""How many failures are kept. A broker that has refused a password hangs up at once on the next attempt."""


class KafkaClient(KafkaNetClient):  # type: ignore[misc]
    """The network client of consumers and of the admin client."""

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        super().__init__(net=net, manager=_Manager(net, **configs), **configs)

    @property
    def failures(self) -> list[Exception]:
        """Why the last connections failed that did so, the newest first."""
        return list(reversed(self._manager.failures))


class ProducerClient(KafkaClient):
    """The network client of the producer."""

    def connection_delay(self, node_id: int) -> float:
        """Returns the milliseconds until the node can be connected or sent to."""
        connection = self._manager._conns.get(node_id)
        if connection is not None and not connection.connected:
            return CONNECTING_MS
        return float(1e3 * self._manager.connection_delay(node_id))


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    def __init__(self, net: Any, **configs: Any) -> None:
        super().__init__(net, **configs)
        self.failures: deque[Exception] = deque(maxlen=KEPT_FAILURES)

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        receive = transport._sock_recv

        def receive_last_words() -> tuple[bytes, Exception | None]:
            data, error = receive()
            return data, None if data else error  # the next read has the error again

        transport._sock_recv = receive_last_words
        return transport

    async def _connect(self, node: Any, conn: Any, **options: Any) -> None:
        """Connects. A connection without any response counts as one more failure for the back-off."""
        before = self._backoff.get(node.node_id)
        await super()._connect(node, conn, **options)
        if conn.init_future.failed():
            self.failures.append(conn.init_future.exception)
        if not conn.connected and node.node_id not in self._backoff:
            if before is not None:
                self._backoff[node.node_id] = before
            self.update_backoff(node.node_id)
