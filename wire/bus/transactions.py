"""Sends records, and commits the offsets of the records from which they were made, in one Kafka transaction: readers
see all of it or nothing.

    records, offsets, member of the group --commit--> begin -> send -> offsets -> commit --> every reader
                                                                             '--> abort --> no reader

The broker refuses the offsets of a member if its partitions were assigned to another member (KIP-447). So if two
replicas have answered the same event, only one of them can commit its answer.

If the outcome of a transaction is unknown, this publisher must be closed, and the group's committed offsets must be
fetched. The next publisher with the same transactional id makes the broker end the transaction.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from kafka.errors import KafkaError  # type: ignore[import-untyped]

from wire.bus.client_errors import to_wire_error
from wire.bus.fetching import ENDS_TRANSACTIONS
from wire.bus.publisher import PERMANENT_ERRORS, REPLACE_TIMEOUT_S, close_producer
from wire.config import BusConfig
from wire.dead_letters import ENCODING_ERRORS
from wire.envelope import to_message
from wire.errors import BusRefused, BusUnavailable, SendFailed
from wire.mapping import AnswerFields
from wire.records import TopicRecord

TRANSACTION_TIMEOUT_MS = 10_000
"""After this time the broker aborts the transaction of a replica that was killed. Until then its partitions wait."""


class TransactionAborted(BusUnavailable):
    """A transaction was aborted: readers see nothing of it, and all of it may be sent again."""


class TransactionalPublisher:
    """Commits one transaction at a time, from one thread. `open_producer` opens a client with a transactional id.

    Raises BusRefused if the broker does not support transactions, and BusUnavailable.
    """

    def __init__(self, open_producer: Callable[[], Any], config: BusConfig) -> None:
        self._config = config
        self._servers = config.bootstrap_servers
        self._answer_fields = AnswerFields(config.map.answers)
        self._open_producer = open_producer
        self._producer: Any = None
        self.is_closed = False
        self._begin()

    def commit(self, records: Iterable[TopicRecord], offsets: Mapping[Any, Any], member: Any) -> None:
        """Commits `records` and `offsets` together; returns when they are committed.

        Raises RecordRefused for a record that can never be sent, and TransactionAborted. In both cases readers see
        nothing, and the publisher can be used again. Raises BusUnavailable if the outcome is unknown: close the
        publisher.
        """
        producer = self._producer
        try:
            producer.begin_transaction()
        except KafkaError as error:
            raise BusUnavailable(f"{self._servers}: {error}") from error
        sent: list[tuple[TopicRecord, Any]] = []
        try:
            for record in records:
                sent.append((record, self._send(record)))
            producer.send_offsets_to_transaction(offsets, member)
        except (KafkaError, ValueError, *ENCODING_ERRORS) as error:
            # A fatal error is, for example, another client with the same transactional id.
            if producer._transaction_manager.has_fatal_error():
                raise BusUnavailable(f"{self._servers}: {error}") from error
            self._abort_and_reopen(self._abort_error(sent, error), error)
        try:
            producer.commit_transaction()
        except KafkaError as error:
            failure = self._abort_error(sent, error)
            # If a record has failed, the client does not send the commit.
            if isinstance(failure, RecordRefused):
                self._abort_and_reopen(failure, error)
            raise BusUnavailable(f"{self._servers}: {error}") from error

    def close(self) -> None:
        """Closes the client; the broker aborts a transaction that is under way. Idempotent."""
        if not self.is_closed:
            self.is_closed = True
            try:
                close_producer(self._producer, REPLACE_TIMEOUT_S)
            except KafkaError:
                return

    def _send(self, record: TopicRecord) -> Any:
        try:
            message = to_message(record, self._answer_fields.of(record))
            topic = self._config.topic_for(type(record))
            return self._producer.send(topic, key=message.key, value=message.value, headers=list(message.headers))
        except PERMANENT_ERRORS as error:
            raise Unsendable(record, error) from error

    def _abort_and_reopen(self, failure: Exception, error: Exception) -> NoReturn:
        """Aborts an uncommitted transaction and raises `failure`.

        It opens another client with the same transactional id, which makes the broker abort the transaction.
        """
        self.close()
        self._begin()
        raise failure from error

    def _begin(self) -> None:
        """Opens a client. The broker aborts the transaction of the client before it and refuses that client."""
        self._producer = self._open_producer()
        self.is_closed = False
        try:
            if not ENDS_TRANSACTIONS & set(self._producer._sender._client._manager.broker_version_data.api_versions):
                raise BusRefused(
                    f"Kafka at {self._servers} does not support transactions: set serving.exactly_once to false"
                )
            self._producer.init_transactions()
        except KafkaError as error:
            self.close()
            raise to_wire_error(self._servers, error) from error
        except BusRefused:
            self.close()
            raise

    def _abort_error(self, sent: Iterable[tuple[TopicRecord, Any]], error: Exception) -> Exception:
        """Returns the error to raise for an aborted transaction."""
        if isinstance(error, Unsendable):
            return RecordRefused(error.record, str(error.cause))
        for record, future in sent:
            cause = future.exception if future.failed() else None
            if isinstance(cause, PERMANENT_ERRORS):
                return RecordRefused(record, str(cause))
        return TransactionAborted(f"{self._servers}: {error}")


class Unsendable(KafkaError):  # type: ignore[misc]
    """A record cannot be passed to the client."""

    def __init__(self, record: TopicRecord, cause: Exception) -> None:
        super().__init__(str(cause))
        self.record = record
        self.cause = cause


class RecordRefused(SendFailed):
    """A record can never be sent. The other records of its transaction may be sent again without it."""

    def __init__(self, record: TopicRecord, reason: str) -> None:
        super().__init__(f"{type(record).__name__} {record.message_id}: {reason}", is_permanent=True)
        self.record = record
