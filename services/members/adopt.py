"""`lifelong model adopt`: hands an encoder to the learner of a running service.

    encoder --round--> stored weights --check--> blobs, EncoderOffer --store--> the learner --OfferOutcome--> decision

An operator can only offer: the learner measures the encoder as it does one of its own, and the rollout judges the
versions made with it. So this command belongs to those that make encoders, and `lifelong rollout` shows what follows.

Rejected: a step of the rollout that names a folder (no replica could compare an encoder without a head, and only the
learner can make one).
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec

from learner.config import LearnerConfig
from learner.encoder.base import why_not
from learner.encoder.served import export_tensor
from model.config import StrataConfig
from model.errors import WrongConfig
from model.member import read_member, read_stored
from model.qtensor import QTensor
from model.source import encoder_folder
from model.tokenizer import TextTokenizer
from services.members.source import Say, open_source
from services.members.stored import rounded
from wire.records import EncoderOffer
from wire.store import Store
from wire.timestamps import now_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptOptions:
    """What the service gets besides the encoder: a head of another size. 0 and None leave what is there."""

    num_features: int = 0
    label_capacity: int = 0
    max_loss: float | None = None


def offer(
    store: Store,
    encoder: str | None,
    options: AdoptOptions,
    *,
    learner: LearnerConfig,
    tokenizer: TextTokenizer,
    say: Say,
) -> EncoderOffer:
    """Puts the weights of `encoder` into the store and offers it; None offers another head for the encoder in use.

    `learner` and `tokenizer` are those of the service. Raises WrongConfig where they do not fit, before anything is
    written.
    """
    made = EncoderOffer(
        id=secrets.token_hex(16),
        name="the one in use" if encoder is None else Path(encoder).name,
        time_ms=now_ms(),
        num_features=options.num_features,
        label_capacity=options.label_capacity,
        max_loss=options.max_loss,
    )
    if encoder is not None:
        config, tensors = stored_weights(encoder, say)
        stored = [export_tensor(tensor) for tensor in tensors.values()]
        made = msgspec.structs.replace(
            made,
            tokenizer=TextTokenizer.from_encoder(encoder).digest,
            config=config.canonical_json(),
            tensors=tuple(each.entry for each in stored),
        )
        if reason := why_not(made, learner, tokenizer):
            raise WrongConfig(f"{encoder} cannot be adopted: {reason}")
        for number, each in enumerate(stored):
            say(f"storing its weights: {number} of {len(stored)}")
            store.blobs.put(each.tensor.to_blob())
    store.offers.make(made)
    return made


def stored_weights(encoder: str, say: Say) -> tuple[StrataConfig, dict[str, QTensor]]:
    """Returns the shape and the weights as they are served: those of the folder, or rounded here."""
    folder = encoder_folder(encoder)
    member = read_member(folder)
    if member is not None and member.schemes:
        return member.config, read_stored(folder, member)
    strata, tensors = rounded(open_source(encoder), is_int4=False, say=say)
    return strata.config, tensors
