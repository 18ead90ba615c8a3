"""Every span, by name. A name that was released stays; `tests/wire/spans.txt` freezes them.

No attribute holds a text, a label, a key or the id of an event: a trace leaves the service, and nobody is erased there.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Program: TypeAlias = Literal["replica", "learner", "rollout"]
"""A process that makes spans: `lifelong-replica` is its `service.name`."""


@dataclass(frozen=True, slots=True)
class SpanKind:
    """A kind of span: its name, which process makes it, what it lasts from and to, and its attributes."""

    name: str
    made_by: Program
    help: str
    attributes: tuple[str, ...]


VERSION_NUMBER: Final = "lifelong.weights_version"
ARM: Final = "lifelong.arm"
PRECISION: Final = "lifelong.precision"
QUEUE_MS: Final = "lifelong.queue_ms"
IN_HOLDOUT: Final = "lifelong.in_holdout"

ANSWER: Final = SpanKind(
    "lifelong.answer", "replica", "An event from the queue to its answer", (VERSION_NUMBER, ARM, PRECISION, QUEUE_MS)
)
LABEL: Final = SpanKind("lifelong.label", "learner", "A label from its poll until it is learnt", (IN_HOLDOUT,))
VERSION: Final = SpanKind(
    "lifelong.version", "learner", "A learnt label until the first version with it is published", (VERSION_NUMBER,)
)
LIVE: Final = SpanKind(
    "lifelong.live", "rollout", "A label until the stable version has learnt it, by its first answer", (VERSION_NUMBER,)
)

SPANS: Final = (ANSWER, LABEL, VERSION, LIVE)
