"""The public package: the records of the Kafka topics and their encoding, for producers, consumers and labellers.

    Event, Feedback --to_message--> Message --Kafka client--> events.v1, feedback.v1
    answers.v1 --Kafka client--> Message, Place --from_message--> Answer, or BadMessage

Public are the names of `__all__`, and besides this package the command `lifelong`, HTTP and the topics. Every other
package is internal and may change in any release: also `RolloutPlan` and `WeightManifest`, which lie in Redis under our
signature. A record gains fields only with defaults, and readers ignore the ones they do not know, so producers and
consumers of other releases understand each other.

`Event.TOPIC` is the topic of events, before `bus.prefix`. A message that is no record raises BadMessage, whose `reason`
is one of the names in `deadletter.v1`.
"""

from wire.envelope import from_message, to_message
from wire.errors import BadMessage
from wire.message import Message, Place
from wire.records import Answer, DeadLetter, Event, Feedback, Quarantined

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "BadMessage",
    "DeadLetter",
    "Event",
    "Feedback",
    "Message",
    "Place",
    "Quarantined",
    "__version__",
    "from_message",
    "to_message",
]
