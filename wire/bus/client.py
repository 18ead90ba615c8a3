"""Opens the clients of the library, with the options that are ours, those of the settings, and those of `[bus.client]`.

    Clients --KafkaProducer | KafkaConsumer | KafkaAdminClient--> a client, or BusUnavailable, which says why
                  '-- over KafkaClient | ProducerClient, which mend the network client of kafka-python 3.0.12

In 3.0.12 a connection that was accepted and then lost, before any response on it, counts as a success. So a proxy in
front of a broker that is away is connected to in a busy loop. Also, the producer asks for the delay of a node in
milliseconds and gets seconds, and no delay at all while the connection is made. Each of the two bugs takes a whole core
of a machine on which other processes have to answer, among them the restarting broker.

If no connection can be made for the first time, the library says only that the time was over. `failures` are the
reasons of the last attempts: a wrong password or certificate is none that time mends. What a broker says before it
hangs up is lost in 3.0.12 if both are read at once, so that a refusal would seem to be an outage.
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

from wire.bus.client_errors import mapped, told
from wire.bus.client_options import address_of, options_for, problems, security_options
from wire.config import BusConfig
from wire.errors import BusRefused, WireError
from wire.letters import MAX_LETTER_BYTES

METADATA_AGE_MS = 5_000  # new partitions are noticed after this long
RECONNECT_MS = (50, 1_000)  # first and longest pause between attempts; the client's own longest is 30 s

CONNECTING_MS = 100.0
"""Longest wait of a producer while a connection is made. An event of the connection ends the wait."""

KEPT_FAILURES = 8
"""How many failures are kept. A broker that has refused a password hangs up at once on the next attempt."""


class Clients:
    """Opens clients of one cluster under one client id. Raises BusRefused where an option is wrong."""

    def __init__(self, config: BusConfig, client_id: str) -> None:
        self._config = config
        self._client_id = client_id
        self._address = address_of(config)
        if wrong := problems(config.client):
            raise BusRefused("; ".join(wrong))

    def admin(self, wait_ms: int | None = None) -> Any:
        return self._open(KafkaAdminClient, wait_ms=wait_ms)

    def producer(self, **transactional: Any) -> Any:
        """Opens a producer; `transactional` are the options of one that sends in transactions."""
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
        return _patch_abort_errors(producer if transactional else _patch_id_renewal(producer))

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
        network_clients: list[Any] = []

        def open_network(**configs: Any) -> Any:
            network_client = client_type(**configs)
            network_clients.append(network_client)
            return network_client

        try:
            security = security_options(self._config)
            with mapped(self._address):
                return client(
                    **security,
                    **options_for(client, self._config.client),
                    bootstrap_servers=self._config.bootstrap_servers.split(","),
                    client_id=self._client_id,
                    bootstrap_timeout_ms=self._config.client_number("request_timeout_ms")
                    if wait_ms is None
                    else wait_ms,
                    request_timeout_ms=self._config.client_number("request_timeout_ms"),
                    retry_backoff_ms=self._config.client_number("retry_backoff_ms"),
                    reconnect_backoff_ms=RECONNECT_MS[0],
                    reconnect_backoff_max_ms=RECONNECT_MS[1],
                    metadata_max_age_ms=METADATA_AGE_MS,
                    kafka_client=open_network,
                    **options,
                )
        except WireError as error:
            failures = [failure for each in network_clients for failure in each.failures]
            for network_client in network_clients:  # a client that found no broker leaves its thread running
                network_client.close()
            raise told(self._address, error, failures) from error


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


def _patch_id_renewal(producer: Any) -> Any:
    """Patches the client library's `producer` so that it sends again after a record has expired in flight.

    kafka-python 3.0.12 drops its producer id then, and requests a new one only in its initial state, to which it never
    returns: it goes on accepting records, and neither sends nor fails them.
    """
    manager = producer._transaction_manager
    reset_id = manager.reset_producer_id

    def reset_id_and_state() -> None:
        with manager._lock:
            reset_id()
            manager._current_state = TransactionState.UNINITIALIZED

    manager.reset_producer_id = reset_id_and_state
    return producer


class BatchAborted(KafkaError):  # type: ignore[misc]
    """A record was aborted because another one was refused permanently. The record itself is not the cause."""


def _patch_abort_errors(producer: Any) -> Any:
    """Patches the client library's `producer` so that a refused record and those aborted with it have different errors.

    kafka-python 3.0.12 gives all of them the error of the first, so that thousands of records would seem too large.
    """
    sender = producer._sender
    abort = sender._maybe_abort_batches

    def abort_others(error: Exception) -> None:
        abort(BatchAborted(f"another record was refused: {error}"))

    sender._maybe_abort_batches = abort_others
    return producer
