"""What both ways into a replica share, Kafka and HTTP: the queue before the model, and the way out."""

from dataclasses import dataclass

from serving.batcher import BatchQueue
from serving.counts import Counts
from serving.engine import Engine, Item
from serving.outbox import Outbox
from serving.tokens import Encode


@dataclass(frozen=True, kw_only=True, slots=True)
class Core:
    """An event becomes an `Item` by `encode`, waits in `queue`, is answered by `engine`, and leaves by `outbox`."""

    encode: Encode
    queue: BatchQueue[Item]
    engine: Engine
    outbox: Outbox
    counts: Counts

    @property
    def is_ready(self) -> bool:
        """Whether there are weights to answer with."""
        return self.engine.live is not None
