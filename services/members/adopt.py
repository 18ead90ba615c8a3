"""Implements `lifelong model quantize` and `adopt`: rounds an encoder as it is served, and offers it to a learner.

    Strata --calibrate, GPTQ--> stored weights: INT8 with INT4 inside, or INT4 alone --> cosine with the source
    stored weights --check--> blobs, EncoderOffer --log--> the learner --CommandOutcome--> Decided

The folder of `quantize` holds the weights that a version would ship. Reading it gives the same bits as quantizing
again, and is faster.

An operator can only offer an encoder. The learner measures it like an encoder of its own slow rounds, and the rollout
judges the versions that are made with it (`lifelong rollout`).
"""

import copy
import secrets
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from learner.config import LearnerConfig
from learner.encoder.base import offer_problem
from learner.encoder.served import export_tensor
from model.calibration import TEXTS, grams, smooth, to_int4
from model.encoders import FAMILIES, open_encoder, open_inputs
from model.errors import WrongConfig
from model.member import Member, read_member, read_stored, write_member
from model.packed import EncoderConfig, Inputs, Tensors
from model.qtensor import QTensor
from model.quantized import QuantizedEncoder
from model.source import encoder_folder
from model.strata import Strata, encode_many
from model.strata_family import STRATA
from model.weights import encoder_tensors
from services.members.source import (
    BATCH,
    Made,
    Say,
    Source,
    compare_to_source,
    cosine,
    history_step,
    open_source,
    require_free,
)
from wire.records import Command, CommandOutcome, EncoderOffer
from wire.store import Store
from wire.timestamps import now_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """The result of `quantize`, and the mean cosine of its vectors with the source's vectors in each precision."""

    made: Made
    cosines: dict[str, float]

    def lines(self) -> list[str]:
        cosines = ", ".join(f"{precision} {value:.4f}" for precision, value in self.cosines.items())
        return [*self.made.lines(), f"as served: {cosines}"]

    def fields(self) -> dict[str, Any]:
        return self.made.fields() | {"cosines": self.cosines}


def quantize(encoder: str, out: Path, *, is_int4: bool = False, say: Say) -> Stored:
    """Writes a folder with the stored weights: INT8 with INT4 inside, or INT4 alone.

    Raises WrongConfig, and NonFinite for weights that the format cannot hold.
    """
    require_free(out)
    source = open_source(encoder)
    strata, tensors = quantize_source(source, is_int4=is_int4, say=say)
    served = QuantizedEncoder.from_tensors(strata.config, tensors)
    token_ids = source.tokenizer.encode_many(TEXTS)
    expected_BD = encode_many(source.strata, token_ids, batch_size=BATCH)
    cosines: dict[str, float] = {}
    for precision in served.precisions:
        say(f"measuring {precision}")
        encode = partial(served.encode, precision=precision)
        found_BD = encode_many(encode, token_ids, batch_size=BATCH)
        cosines[precision] = cosine(expected_BD, found_BD)
    member = Member(
        config=strata.config,
        max_tokens=source.tokenizer.max_tokens,
        history=(*source.history, history_step("quantize", {"int4": is_int4, "cosines": cosines})),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_member(out, member, tensors, source.tokenizer_json)
    num_bytes = sum(len(tensor.to_blob()) for tensor in tensors.values())
    made = compare_to_source(source, strata.config, out, num_bytes=num_bytes, cosine=cosines[served.precisions[0]])
    return Stored(made=made, cosines=cosines)


def quantize_source(source: Source, *, is_int4: bool, say: Say) -> tuple[Strata, dict[str, QTensor]]:
    """Returns the calibrated encoder, and its weights as they are served. Raises NonFinite."""
    # Calibration changes the encoder in place.
    strata = copy.deepcopy(source.strata)
    say("calibrating")
    gram_by_name = grams(strata, source.tokenizer)
    say("rounding the weights")
    if is_int4:
        return strata, encoder_tensors(to_int4(strata, gram_by_name))
    return strata, encoder_tensors(strata, grams=smooth(strata, gram_by_name))


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptOptions:
    """The options of an offer. 0 and None leave the present value.

    - `num_features`, `label_capacity`: the size of the head.
    - `max_loss`: the accuracy that the new encoder may lose; None for the learner's own limit.
    """

    num_features: int = 0
    label_capacity: int = 0
    max_loss: float | None = None


def offer(
    store: Store,
    encoder: str | None,
    options: AdoptOptions,
    *,
    learner: LearnerConfig,
    tokenizer: Inputs,
    say: Say,
    source: str = "",
) -> Command:
    """Puts the weights of `encoder` into the store, offers the encoder to the learner, and returns the command.

    If `encoder` is None, this offers another head for the encoder in use.

    `learner` and `tokenizer` are the service's configuration and tokenizer; `source` names the operator. Raises
    WrongConfig, before anything is written, if the encoder does not fit them.
    """
    request = EncoderOffer(
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
        request = msgspec.structs.replace(
            request,
            tokenizer=open_inputs(encoder).digest,
            config=config.canonical_json(),
            tensors=tuple(exported.entry for exported in stored),
        )
        if reason := offer_problem(request, learner, tokenizer):
            raise WrongConfig(f"{encoder} cannot be adopted: {reason}")
        for number, exported in enumerate(stored):
            say(f"storing its weights: {number} of {len(stored)}")
            store.blobs.put(exported.tensor.to_blob())
    return store.commands.append(request, source=source, time_ms=request.time_ms)


def stored_weights(encoder: str, say: Say) -> tuple[EncoderConfig, Tensors]:
    """Returns the shape and the weights as they are served: read from the folder if it has them, else rounded here."""
    family = FAMILIES.claiming(encoder)
    if family is not STRATA:
        whole, inputs = open_encoder(encoder)
        say("rounding the weights")
        tensors = family.quantize_initial(whole, inputs, first_layer=whole.config.n_layers, kept=lambda make: make())
        return whole.config, tensors
    folder = encoder_folder(encoder)
    member = read_member(folder)
    if member is not None and member.schemes:
        return member.config, read_stored(folder, member)
    strata, tensors = quantize_source(open_source(encoder), is_int4=False, say=say)
    return strata.config, tensors


@dataclass(frozen=True, slots=True)
class Decided:
    """The learner's decision on an offer. `numbers` of the outcome compare the new encoder with the one before it:

    - `held`: the number of holdout samples; the new encoder alone predicted `held_won` right, the old one alone
      `held_lost`.
    - `tried`: the number of new labels that both encoders predicted before either had learnt them, with `tried_won` and
      `tried_lost` likewise.
    """

    outcome: CommandOutcome

    @property
    def is_refused(self) -> bool:
        return self.outcome.state == "refused"

    def lines(self) -> list[str]:
        outcome = self.outcome
        numbers = Counter(outcome.numbers)
        comparison = (
            f"Of {numbers['held']} holdout samples the new encoder alone predicts {numbers['held_won']} right, the old "
            f"one alone {numbers['held_lost']}"
        )
        if numbers["tried"]:
            comparison += f"; of {numbers['tried']} new labels {numbers['tried_won']} and {numbers['tried_lost']}"
        if self.is_refused:
            return [f"Refused, and nothing has changed: {', '.join(outcome.reasons)}.", f"{comparison}."]
        return [
            f"Adopted, and published first as version {outcome.version}.",
            f"{comparison}.",
            "`lifelong rollout status` shows which share of the traffic it answers.",
        ]

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(self.outcome)
        return fields
