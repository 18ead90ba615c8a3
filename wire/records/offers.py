"""An encoder that is offered to the learner, and what became of the offer.

Rejected: the path of a folder (the learner may run on another machine), and the weights inside the record (they are
blobs, as those of a version are).
"""

from typing import Literal

from wire.records.record import Record
from wire.records.weights import TensorEntry


class EncoderOffer(Record, frozen=True, kw_only=True):
    """A finished encoder, to take the place of the one in use, together with a head of another size, if that is wanted.

    `name` is what the operator called it, and `tokenizer` the digest of its tokenizer. `config` is its canonical JSON,
    and `tensors` are its stored weights, whose blobs are in the store; without any, the encoder in use stays. The head
    has `num_features` random features, and room for `label_capacity` classes (0: as many as before). The accuracy may
    be lower by `max_loss`, in [0, 1] (None: as much as between any two versions).
    """

    id: str
    name: str
    time_ms: int
    tokenizer: str = ""
    config: str = ""
    tensors: tuple[TensorEntry, ...] = ()
    num_features: int = 0
    label_capacity: int = 0
    max_loss: float | None = None


class OfferOutcome(Record, frozen=True, kw_only=True):
    """What became of the offer `offer`: adopted, and published first as `version`, or refused, for these `reasons`.

    Of the `held` holdout samples it alone named `held_won` rightly, and the encoder before alone `held_lost`. `tried`
    new labels were named by both before either had learnt them, with `tried_won` and `tried_lost` likewise.
    """

    offer: str
    name: str
    state: Literal["adopted", "refused"]
    time_ms: int
    version: int = 0
    reasons: tuple[str, ...] = ()
    held: int = 0
    held_won: int = 0
    held_lost: int = 0
    tried: int = 0
    tried_won: int = 0
    tried_lost: int = 0
