"""The Kafka client: topics, sending, reading as a member of a group, and reading every partition from given offsets.

    Publisher.send(record) -> broker -> on_ack          at most `max_in_flight` unacknowledged; then the sender waits
    broker -> Subscription.poll() -> ... -> finish()    a group shares the partitions; the finished prefix is committed
    broker -> Follower.poll() -> offsets                all partitions; the reader stores the offsets with its state

Delivery is at least once: offsets are committed after the effect, so a record may be delivered again and none is lost.
A message that cannot be read is returned as a dead letter with its position, ready to be sent, so that one bad message
stops nobody.

`bus` makes what sends and reads, `opening` its clients (`client`, `client_options`, `security`); `topics` makes topics;
`publisher` sends, bounded by `inflight`, and `transactions` sends together with offsets;
`subscription`, with `commits` and `group_reader`, and `follower`, with `positions`, read; `losses` says where they go
on when the broker has lost what they read. A fetch passes `fetched` -> `batches` -> `inflate`, `record_format`
-> `reading`, and `idle_fetches` says how long it waits. `topic_check` finds what is wrong with topics, `topic_logs`
detects recreated ones, `end_offsets` finds the ends of partitions, `beginnings` where to begin, `scan` reads whole
topics, and `client_errors` maps the library's exceptions to ours.

Rejected: automatic commits (they acknowledge what was delivered, not what was done), transactions for the learner (it
stores its offsets with its weights, which is exact without them), and one client for all (a consumer belongs to one
thread).
"""

from wire.bus.bus import Bus
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
    "partition_name",
    "readings",
]
