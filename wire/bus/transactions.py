"""Sends records and commits the offsets of what they answer in one transaction of Kafka: all of it is seen, or nothing.

    records, offsets, member of the group --commit--> begin -> send -> offsets -> commit --> who reads what is committed
                                                                             '--> abort --> nobody

The broker refuses the offsets of a member whose partitions have gone to another one (KIP-447): so of two replicas that
both answered an event, one commits its answer. Where nobody can tell how a transaction ended, this publisher must be
closed, and what the group has committed must be asked: the next publisher of the same name ends the transaction first.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from kafka.errors import KafkaError  # type: ignore[import-untyped]

from wire.bus.client_errors import mapped_error
from wire.bus.fetching import ENDS_TRANSACTIONS
from wire.bus.publisher import PERMANENT_ERRORS, REPLACE_TIMEOUT_S, end_producer
from wire.config import BusConfig
from wire.envelope import to_message
from wire.errors import BusRefused, BusUnavailable, SendFailed
from wire.letters import ENCODING_ERRORS
from wire.mapping import AnswerFields
from wire.records import TopicRecord

TRANSACTION_TIMEOUT_MS = 10_000
"""After this time the broker aborts the transaction of a replica that was killed; until then its partitions wait."""


class TransactionAborted(BusUnavailable):
    """A transaction was aborted: nothing of it is seen, and all of it may be sent again."""


class TransactionalPublisher:
    """One transaction at a time, from one thread. `open_producer` makes a client with a transactional id.

    Raises BusRefused where the broker knows no transactions, and BusUnavailable.
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
        """Returns when `records` and `offsets` are committed together.

        Raises SendFailed for a record that can never be sent, and TransactionAborted: nothing is seen, go on. Raises
        BusUnavailable where nobody can tell: close it.
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
            if producer._transaction_manager.has_fatal_error():  # such as another client of the name
                raise BusUnavailable(f"{self._servers}: {error}") from error
            self._end_by_next(self._failure(sent, error), error)
        try:
            producer.commit_transaction()
        except KafkaError as error:
            failure = self._failure(sent, error)
            if isinstance(failure, RecordRefused):  # with a failed record no commit is sent
                self._end_by_next(failure, error)
            raise BusUnavailable(f"{self._servers}: {error}") from error

    def close(self) -> None:
        """Ends the client; a transaction under way is aborted by the broker. Idempotent."""
        if not self.is_closed:
            self.is_closed = True
            try:
                end_producer(self._producer, REPLACE_TIMEOUT_S)
            except KafkaError:
                return

    def _send(self, record: TopicRecord) -> Any:
        try:
            message = to_message(record, self._answer_fields.of(record))
            topic = self._config.topic_of(type(record))
            return self._producer.send(topic, key=message.key, value=message.value, headers=list(message.headers))
        except PERMANENT_ERRORS as error:
            raise Unsendable(record, error) from error

    def _end_by_next(self, failure: Exception, error: Exception) -> NoReturn:
        """Ends a transaction that was not committed by another client of its name, and raises `failure`."""
        self.close()
        self._begin()
        raise failure from error

    def _begin(self) -> None:
        """Opens a client; the broker aborts what the one before it has begun, and takes no more of that."""
        self._producer = self._open_producer()
        self.is_closed = False
        try:
            if not ENDS_TRANSACTIONS & set(self._producer._sender._client._manager.broker_version_data.api_versions):
                raise BusRefused(f"{self._servers} ends no transactions: set serving.exactly_once to false")
            self._producer.init_transactions()
        except KafkaError as error:
            self.close()
            raise mapped_error(self._servers, error) from error
        except BusRefused:
            self.close()
            raise

    def _failure(self, sent: Iterable[tuple[TopicRecord, Any]], error: Exception) -> Exception:
        """Returns what a transaction that was aborted raises."""
        if isinstance(error, Unsendable):
            return RecordRefused(error.record, str(error.cause))
        for record, future in sent:
            cause = future.exception if future.failed() else None
            if isinstance(cause, PERMANENT_ERRORS):
                return RecordRefused(record, str(cause))
        return TransactionAborted(f"{self._servers}: {error}")


class Unsendable(KafkaError):  # type: ignore[misc]
    """A record cannot even be handed to the client."""

    def __init__(self, record: TopicRecord, cause: Exception) -> None:
        super().__init__(str(cause))
        self.record = record
        self.cause = cause


class RecordRefused(SendFailed):
    """A record can never be sent; the others may be sent again without it."""

    def __init__(self, record: TopicRecord, reason: str) -> None:
        super().__init__(f"{type(record).__name__} {record.message_id}: {reason}", is_permanent=True)
        self.record = record
