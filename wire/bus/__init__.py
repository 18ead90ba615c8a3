"""The Kafka client: topics, sending, reading as a member of a group, and reading every partition from given offsets.

    Publisher.send(record) -> broker -> on_ack          at most `max_in_flight` unacknowledged; then the sender waits
    broker -> Subscription.poll() -> ... -> finish()    a group shares the partitions; the finished prefix is committed
    broker -> Follower.poll() -> offsets                all partitions; the reader stores the offsets with its state

Delivery is at least once: offsets are committed after the effect, so a record may be delivered again and none is lost.
A message that cannot be read is returned as a dead letter with its position, ready to be sent, so that one bad message
stops nobody.

bus             makes what sends and reads                  client          opens the library's clients
topics          makes, grows and checks topics              client_options  what the library is given besides ours
publisher       sends records, bounded                      client_errors   the library's exceptions as ours
transactions    sends records together with offsets         losses          where a reader goes on after a loss
subscription    reads as a member of a group                offsets         which offsets may be committed, and when
follower        reads all partitions from given offsets     fetching, record_batches, reading   from bytes to records

Rejected: automatic commits (they acknowledge what was delivered, not what was done), transactions for the learner (it
stores its offsets with its weights, which is exact without them), and one client for all (a consumer belongs to one
thread).
"""

from wire.bus.bus import Bus, every_record
from wire.bus.follower import Followed, Follower
from wire.bus.offsets import Position
from wire.bus.publisher import Publisher
from wire.bus.reading import Loss, Poll, Received, Refused, partition_name, readings
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
    "Received",
    "Refused",
    "Subscription",
    "every_record",
    "partition_name",
    "readings",
]
