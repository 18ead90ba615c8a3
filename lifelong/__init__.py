"""The public package: the records of the Kafka topics and their encoding, for producers, consumers and labellers.

    Event, Feedback --to_message--> Message --Kafka client--> events.v1, feedback.v1
    answers.v1 --Kafka client--> Message, Place --from_message--> Answer, or BadMessage
    Client, AsyncClient --HTTP--> the service        text -> ServedAnswer; its label -> Feedback; or ClientError
    answers.v1 --Client.answers--> Answer, Answer, ...

Public are the names of `__all__`, and besides this package the command `lifelong`, HTTP and the topics. Every other
package is internal and may change in any release: also `RolloutPlan` and `WeightManifest`, which lie in Redis under our
signature. A record gains fields only with defaults, and readers ignore the ones they do not know, so producers and
consumers of other releases understand each other.

`Event.TOPIC` is the topic of events, before `bus.prefix`. A message that is no record raises BadMessage, whose `reason`
is one of the names in `deadletter.v1`.

The clients are imported when they are first used: `client`, and `async_client` for asyncio. `calls` has what they ask
in records, `exchange` how it is tried again, `replies` what responses say, `answer_stream` the answers to all events,
and `errors` what is raised.

`Encoder` is the protocol of a class that `encoder = "module:Class"` names, `Head` that of one that `learner.head`
names, with the `HeadSums` that it gets, and `Strategy` the base of one that `learner.slow_strategy` names, with the
`Outputs` that it sees; torch is imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lifelong.calls import ServedAnswer
from lifelong.errors import ClientError, NotAuthorized, RequestInvalid, ServiceUnavailable, UnknownAnswer
from wire.envelope import from_message, to_message
from wire.errors import BadMessage
from wire.message import Message, Place
from wire.records import Answer, DeadLetter, Event, Feedback, Quarantined, TaskAnswer

if TYPE_CHECKING:
    from learner.rounds.strategies import Outputs, Strategy
    from lifelong.async_client import AsyncClient
    from lifelong.client import Client
    from lifelong.plugins.encoders.module_code import Encoder
    from lifelong.plugins.heads.own import Head
    from model.heads import HeadSums

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AsyncClient",
    "BadMessage",
    "Client",
    "ClientError",
    "DeadLetter",
    "Encoder",
    "Event",
    "Feedback",
    "Head",
    "HeadSums",
    "Message",
    "NotAuthorized",
    "Outputs",
    "Place",
    "Quarantined",
    "RequestInvalid",
    "ServedAnswer",
    "ServiceUnavailable",
    "Strategy",
    "TaskAnswer",
    "UnknownAnswer",
    "__version__",
    "from_message",
    "to_message",
]


_LATER = {
    "AsyncClient": "lifelong.async_client",
    "Client": "lifelong.client",
    "Encoder": "lifelong.plugins.encoders.module_code",
    "Head": "lifelong.plugins.heads.own",
    "HeadSums": "model.heads",
    "Outputs": "learner.rounds.strategies",
    "Strategy": "learner.rounds.strategies",
}
"""The names that need more than the records, and where they are."""


def __getattr__(name: str) -> Any:
    """Imports what needs httpx2 or torch when it is first used."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
