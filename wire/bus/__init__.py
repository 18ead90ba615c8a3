"""The Kafka client: topics, sending, reading as a member of a group, and reading every partition from given offsets.

    Publisher.send(record) -> broker -> on_ack          at most `max_in_flight` unacknowledged; then the sender waits
    broker -> Subscription.poll() -> ... -> finish()    a group shares the partitions; offsets are committed when done
    broker -> Follower.poll() -> offsets                all partitions; the reader stores the offsets with its state

Delivery is at least once: an offset is committed only after the record has had its effect. So no record is lost, but a
record may be delivered again. A message that cannot be parsed is returned as a dead-letter record with its position, so
that one bad message does not block its partition.

bus             creates publishers and readers              client          opens the clients of kafka-python
topics          creates, grows and checks topics            client_options  options that are passed to kafka-python
publisher       sends records, bounded                      client_errors   maps exceptions of kafka-python to ours
transactions    sends records together with offsets         losses          where a reader resumes after a loss
subscription    reads as a member of a consumer group       offsets         which offsets may be committed, and when
follower        reads all partitions from given offsets     fetching, record_batches, reading   from bytes to records

Rejected:

- automatic commits, which acknowledge delivered records, not processed ones;
- transactions for the learner, which stores its offsets with its weights and needs no transactions to be exact;
- one shared client: a consumer belongs to one thread.
"""

from wire.bus.bus import Bus, read_all_records
from wire.bus.follower import Followed, Follower
from wire.bus.offsets import Position
from wire.bus.publisher import Publisher
from wire.bus.reading import Loss, Poll, Received, Refused, partition_name, readings
from wire.bus.record_batches import Raw
from wire.bus.subscription import Subscription
from wire.bus.topics import Finding

__all__ = [
    "Bus",
    "Finding",
    "Followed",
    "Follower",
    "Loss",
    "Poll",
    "Position",
    "Publisher",
    "Raw",
    "Received",
    "Refused",
    "Subscription",
    "partition_name",
    "read_all_records",
    "readings",
]
