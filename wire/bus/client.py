"""Opens clients of kafka-python with fixed options, options from settings, and the options of `[bus.client]`.

    Clients --KafkaProducer | KafkaConsumer | KafkaAdminClient--> a client, or BusUnavailable with the cause
                  uses KafkaClient | ProducerClient, which fix the network client of kafka-python 3.0.12

kafka-python 3.0.12 has two bugs that each keep a whole core busy, which other processes need, among them the broker
that is restarting:

- A connection that was accepted and then lost before any response counts as a success. If a proxy stands in front of a
  broker that is down, the client connects to it in a busy loop.
- The producer expects the connection delay of a node in milliseconds and gets seconds, and it gets no delay at all
  while the connection is being made.

If the first connection fails, the library reports only a timeout. `failures` keeps the errors of the last attempts,
because waiting does not fix a wrong password or certificate. A third bug of 3.0.12 discards the last data of a broker
if the data and the end of the connection are read at once; a refusal would then look like an outage.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]
from kafka.net.compat import KafkaNetClient  # type: ignore[import-untyped]
from kafka.net.manager import KafkaConnectionManager  # type: ignore[import-untyped]
from kafka.net.selector import NetworkSelector  # type: ignore[import-untyped]
from kafka.producer.transaction_manager import TransactionState  # type: ignore[import-untyped]

from wire.bus.client_errors import explain_failure, map_errors
from wire.bus.client_options import options_for, problems, render_address, security_options
from wire.config import BusConfig
from wire.dead_letters import MAX_LETTER_BYTES
from wire.errors import BusRefused, WireError

METADATA_AGE_MS = 5_000
"""New partitions are noticed after at most this time."""

RECONNECT_MS = (50, 1_000)
"""First and longest pause between attempts to connect. The library's default for the longest is 30 s."""

CONNECTING_MS = 100.0
"""Longest wait of a producer while a connection is being made. An event on the connection ends the wait."""

MAX_FAILURES = 8
"""Number of failures that are kept.

More than one is needed: a broker that has refused a password closes the next connection without a reason.
"""


class Clients:
    """Opens clients of one cluster under one client id. Raises BusRefused if an option of `[bus.client]` is wrong."""

    def __init__(self, config: BusConfig, client_id: str) -> None:
        self._config = config
        self._client_id = client_id
        self._address = render_address(config)
        if messages := problems(config.client):
            raise BusRefused("; ".join(messages))

    def admin(self, wait_ms: int | None = None) -> Any:
        return self._open(KafkaAdminClient, wait_ms=wait_ms)

    def producer(self, **transactional: Any) -> Any:
        """Opens a producer. `transactional` are the options of a producer that sends in transactions."""
        producer = self._open(
            KafkaProducer,
            **transactional,
            acks="all",
            enable_idempotence=True,
            allow_auto_create_topics=False,
            max_request_size=MAX_LETTER_BYTES,
            metrics_enabled=False,
            linger_ms=self._config.client_number("linger_ms"),
            delivery_timeout_ms=self._config.client_number("delivery_timeout_ms"),
            max_block_ms=self._config.client_number("request_timeout_ms"),
        )
        if not transactional:
            _patch_id_renewal(producer)
        _patch_abort_errors(producer)
        return producer

    def consumer(self, **options: Any) -> Any:
        return self._open(
            KafkaConsumer,
            enable_auto_commit=False,
            max_poll_records=self._config.client_number("max_poll_records"),
            allow_auto_create_topics=False,
            metrics_enabled=False,
            **options,
        )

    def _open(self, client: Callable[..., Any], *, wait_ms: int | None = None, **options: Any) -> Any:
        client_type = ProducerClient if client is KafkaProducer else KafkaClient
        bootstrap_ms = self._config.client_number("request_timeout_ms") if wait_ms is None else wait_ms
        network_clients: list[Any] = []

        def open_network(**configs: Any) -> Any:
            network_client = client_type(**configs)
            network_clients.append(network_client)
            return network_client

        try:
            security = security_options(self._config)
            with map_errors(self._address):
                return client(
                    **security,
                    **options_for(client, self._config.client),
                    bootstrap_servers=self._config.bootstrap_servers.split(","),
                    client_id=self._client_id,
                    bootstrap_timeout_ms=bootstrap_ms,
                    request_timeout_ms=self._config.client_number("request_timeout_ms"),
                    retry_backoff_ms=self._config.client_number("retry_backoff_ms"),
                    reconnect_backoff_ms=RECONNECT_MS[0],
                    reconnect_backoff_max_ms=RECONNECT_MS[1],
                    metadata_max_age_ms=METADATA_AGE_MS,
                    kafka_client=open_network,
                    **options,
                )
        except WireError as error:
            failures = [failure for network_client in network_clients for failure in network_client.failures]
            # The library leaves the thread of a client running if the client found no broker.
            for network_client in network_clients:
                network_client.close()
            raise explain_failure(self._address, error, failures) from error


class KafkaClient(KafkaNetClient):  # type: ignore[misc]
    """The network client of consumers and of the admin client."""

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        super().__init__(net=net, manager=_Manager(net, **configs), **configs)

    @property
    def failures(self) -> list[Exception]:
        """The errors of the last failed connections, newest first."""
        return list(reversed(self._manager.failures))


class ProducerClient(KafkaClient):
    """The network client of the producer."""

    def connection_delay(self, node_id: int) -> float:
        """Returns the milliseconds until the producer may connect to the node or send to it."""
        connection = self._manager._conns.get(node_id)
        if connection is not None and not connection.connected:
            return CONNECTING_MS
        return float(1e3 * self._manager.connection_delay(node_id))


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    def __init__(self, net: Any, **configs: Any) -> None:
        super().__init__(net, **configs)
        self.failures: deque[Exception] = deque(maxlen=MAX_FAILURES)

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        receive = transport._sock_recv

        def receive_data_before_error() -> tuple[bytes, Exception | None]:
            data, error = receive()
            # If there are data, the error is withheld: the next read returns it again.
            return data, None if data else error

        transport._sock_recv = receive_data_before_error
        return transport

    async def _connect(self, node: Any, conn: Any, **options: Any) -> None:
        """Connects to a node. A connection that ends without any response counts as a failure for the back-off."""
        before = self._backoff.get(node.node_id)
        await super()._connect(node, conn, **options)
        if conn.init_future.failed():
            self.failures.append(conn.init_future.exception)
        if not conn.connected and node.node_id not in self._backoff:
            if before is not None:
                self._backoff[node.node_id] = before
            self.update_backoff(node.node_id)


def _patch_id_renewal(producer: Any) -> None:
    """Patches the library's `producer` so that it continues to send after a record has expired in flight.

    kafka-python 3.0.12 then drops its producer id. It requests a new id only in its initial state, and it never returns
    to that state: it accepts more records, but neither sends them nor reports a failure.
    """
    manager = producer._transaction_manager
    reset_id = manager.reset_producer_id

    def reset_id_and_state() -> None:
        with manager._lock:
            reset_id()
            manager._current_state = TransactionState.UNINITIALIZED

    manager.reset_producer_id = reset_id_and_state


class BatchAborted(KafkaError):  # type: ignore[misc]
    """A record was aborted because another record was refused permanently. The record itself is not the cause."""


def _patch_abort_errors(producer: Any) -> None:
    """Patches the library's `producer` so that records that are aborted with a refused record have another error.

    kafka-python 3.0.12 gives all of them the error of the refused record: if one record is too large, thousands of
    records would seem to be too large.
    """
    sender = producer._sender
    abort = sender._maybe_abort_batches

    def abort_others(error: Exception) -> None:
        abort(BatchAborted(f"another record was refused: {error}"))

    sender._maybe_abort_batches = abort_others
