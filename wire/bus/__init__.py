"""The door to Kafka: topics, sending, reading as a member of a group, and reading every partition from given offsets.

    Publisher.send(record) -> broker -> on_ack          at most `max_in_flight` unacknowledged: then the sender waits
    broker -> Subscription.poll() -> ... -> finish()    a group shares the partitions; the finished prefix is committed
    broker -> Follower.poll() -> offsets                all partitions; the reader keeps the offsets with its own state

Delivery is at least once: offsets are committed after the effect, so a record may come again and none is lost. What
cannot be read comes out as a dead letter with its position, ready to be sent, so that one bad message stops nobody.

Rejected: automatic commits (they acknowledge what was delivered, not what was done), transactions (the learner keeps
its offsets with its weights, which is exact without them), and one client for all (consumers belong to one thread).
"""

from wire.bus.bus import Bus
from wire.bus.follower import Followed, Follower
from wire.bus.publisher import Publisher
from wire.bus.reading import Received, Refused, partition_name
from wire.bus.subscription import Poll, Subscription
from wire.finished import Position

__all__ = [
    "Bus",
    "Followed",
    "Follower",
    "Poll",
    "Position",
    "Publisher",
    "Received",
    "Refused",
    "Subscription",
    "partition_name",
]
