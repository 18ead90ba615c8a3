"""The public package: records of the Kafka topics, their encoding, and HTTP clients, for producers and labellers.

    Event, Feedback --to_message--> Message --Kafka client--> events.v1, feedback.v1
    answers.v1 --Kafka client--> Message, Place --from_message--> Answer, or BadMessage
    Client, AsyncClient --HTTP--> the service        text -> ServedAnswer; its label -> Feedback; or ClientError
    answers.v1 --Client.answers--> Answer, Answer, ...

The public API consists of the names in `__all__`, the command `lifelong`, HTTP, and the topics. Every other package is
internal and may change in any release. This includes `RolloutPlan` and `WeightManifest`, which are stored in Redis with
a signature. New fields of a record always have defaults, and readers ignore fields that they do not know. So producers
and consumers of different releases understand each other.

`Event.TOPIC` is the name of the topic of events, without `bus.prefix`. `from_message` raises BadMessage for a message
that is not a record; the `reason` of the error is one of the reasons in `deadletter.v1`.

The modules:

    client, async_client    the clients, blocking and for asyncio; imported when they are first used
    calls                   requests and responses as records
    exchange                batches, retries and deadlines
    replies                 HTTP responses -> results or errors
    answer_stream           the answers to all events, from Kafka
    errors                  the exceptions

Three names are for users who extend the service. torch is imported when one of them is first used.

    Encoder     the protocol of the class that `encoder = "module:Class"` names
    Head        the protocol of the class that `learner.head` names; it gets `HeadSums`
    Strategy    the base of the class that `learner.slow_strategy` names; it gets `Outputs`
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


_LAZY = {
    "AsyncClient": "lifelong.async_client",
    "Client": "lifelong.client",
    "Encoder": "lifelong.plugins.encoders.module_code",
    "Head": "lifelong.plugins.heads.own",
    "HeadSums": "model.heads",
    "Outputs": "learner.rounds.strategies",
    "Strategy": "learner.rounds.strategies",
}
"""The modules of the names that are imported when they are first used: they need httpx2 or torch."""


def __getattr__(name: str) -> Any:
    """Imports a name of `_LAZY` (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
