"""Opens the clients of the library, with the options that are ours, those of the settings, and those of `[bus.client]`.

    Clients --KafkaProducer | KafkaConsumer | KafkaAdminClient--> a client, or BusUnavailable, which says why

Rejected: the library's own defaults (it commits and creates topics by itself, and waits up to 30 s before it connects
again).
"""

from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from wire.bus.client import KafkaClient, ProducerClient
from wire.bus.client_errors import mapped, told
from wire.bus.client_options import options_for, problems
from wire.bus.publisher import patch_abort_errors, patch_id_renewal
from wire.bus.security import address_of, security_options
from wire.config import BusConfig
from wire.errors import BusRefused, WireError
from wire.letters import MAX_LETTER_BYTES

METADATA_AGE_MS = 5_000  # new partitions are noticed after this long
RECONNECT_MS = (50, 1_000)  # first and longest pause between attempts; the client's own longest is 30 s


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
            linger_ms=self._config.linger_ms,
            delivery_timeout_ms=self._config.delivery_timeout_ms,
            max_block_ms=self._config.request_timeout_ms,
        )
        return patch_abort_errors(producer if transactional else patch_id_renewal(producer))

    def consumer(self, **options: Any) -> Any:
        return self._open(
            KafkaConsumer,
            enable_auto_commit=False,
            max_poll_records=self._config.max_poll_records,
            client_rack=self._config.client_rack,
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
                    bootstrap_timeout_ms=self._config.request_timeout_ms if wait_ms is None else wait_ms,
                    request_timeout_ms=self._config.request_timeout_ms,
                    retry_backoff_ms=self._config.retry_backoff_ms,
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
