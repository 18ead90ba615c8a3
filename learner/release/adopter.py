"""Follows the offer of an encoder, and notes in the store what became of it.

    store.offers --open--> checks, blobs --a round (`learner.slow.making`)--> in use --first version--> noted: adopted
                             |                            '--> reasons ---------------------------------> noted: refused
                             '--> reasons ----------------------------------------------------------------^

An encoder that was adopted is in the next checkpoint, which is written before its first version is sent
(`learner.release.publisher`). So a learner that is killed on the way finds the offer open, and either goes on with the
encoder, or decides on it again. A refusal changes nothing but the note. Where the gate refuses the first version all
the same, the learner goes back to the version before, as after `learner.max_refusals` others.

Rejected: encoders from a folder of the learner's machine (an operator would have to copy them there, and nobody had
verified them), and a decision by the first version alone (labels of some seconds would have to be set aside each time).
"""

import time
from collections.abc import Callable, Mapping
from functools import partial

import msgspec
import structlog

from learner.errors import OfferRefused
from learner.leadership import Leadership
from learner.learner import Learner
from learner.release.publisher import WeightPublisher
from learner.release.store_turns import StoreTurns
from learner.slow.making import OfferedEncoder
from learner.state.base_encoder import BaseEncoder
from model.errors import ModelError
from model.head import PROJ
from model.qtensor import QTensor, from_blob
from wire.errors import StoreUnavailable, WireError
from wire.records import EncoderOffer, OfferOutcome
from wire.store import Store

log = structlog.get_logger("learner")


class Adopter:
    """Belongs to the learner's thread. The round of an offer takes the place of one that trains, whatever its phase."""

    def __init__(
        self,
        learner: Learner,
        store: Store,
        publisher: WeightPublisher,
        *,
        leadership: Leadership,
        now_ms: Callable[[], int],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._store = store
        self._publisher = publisher
        self._now_ms = now_ms
        self._turns = StoreTurns(
            leadership, learner.counts, count="offers_unreadable", event="offer_unreadable", clock_s=clock_s
        )
        self._making: OfferedEncoder | None = None

    def turn(self) -> None:
        """Begins the round of an offer, if one waits; reads the offer and notes its outcome now and then.

        Raises StaleEpoch.
        """
        self._turns.take(self._follow)
        if self._making is not None and self._making.refusals is None:
            self._consider(self._making)

    def _consider(self, making: OfferedEncoder) -> None:
        """Begins the round of an offer. What a round trains would be for nothing, and takes a minute under load."""
        known = self._learner.knowledge
        if known.round is not None and known.round.trained and known.round.is_ready:
            log.info("round_dropped", round=known.round.number, reason=f"the encoder {making.offer.name} is offered")
            known.drop()
        if known.round is None:
            known.consider(making)

    def _follow(self) -> None:
        """Takes up what is open, and notes what is decided."""
        offer = self._store.offers.open()
        making = self._making
        if making is not None and (offer is None or making.offer.id != offer.id):
            self._forget(making)
        if offer is None:
            return
        adopted = self._learner.knowledge.base.adopted
        if adopted is not None and adopted.offer == offer.id:
            self._await_version(offer)
        elif self._making is None:
            self._begin(offer)
        elif self._making.refusals is not None:  # adopted, but the learner went back, or refused
            self._note(offer, self._making.refusals or self._publisher.refusals or ("its first version was withdrawn",))

    def _begin(self, offer: EncoderOffer) -> None:
        known = self._learner.knowledge
        if not offer.tensors:
            offer = _with_encoder(offer, known.base, known.fast_head.served.tokenizer.digest)
        reason = self._learner.bases.why_not(offer, known.base)
        if reason:
            self._note(offer, (reason,))
            return
        held = {name: stored.tensor for name, stored in known.fast_head.served.tensors.items() if name != PROJ}
        self._making = OfferedEncoder(offer=offer, take=partial(self._take, offer, held, known.base))
        log.info("encoder_offered", name=offer.name, offer=offer.id)

    def _take(self, offer: EncoderOffer, held: Mapping[str, QTensor], current: BaseEncoder) -> BaseEncoder:
        """Fetches and verifies the weights, in the thread of slow work. `held` are those of the encoder in use."""
        tensors: dict[str, QTensor] = {}
        try:
            for entry in offer.tensors:
                tensors[entry.name] = from_blob(entry, self._store.blobs.get(entry.digest, entry.num_bytes))
        except (WireError, ModelError) as error:
            raise OfferRefused(str(error), may_retry=isinstance(error, StoreUnavailable)) from error
        return self._learner.bases.take(offer, tensors or held, current)

    def _await_version(self, offer: EncoderOffer) -> None:
        """Notes that the offer was adopted, once its first version is published; goes back if that is refused."""
        last = self._publisher.last
        if last is not None and last.version.base == self._learner.knowledge.base.key:
            self._note(offer, ())
        elif self._learner.progress.num_refused:
            self._publisher.give_up_refused()

    def _note(self, offer: EncoderOffer, reasons: tuple[str, ...]) -> None:
        making = self._making or OfferedEncoder(offer=offer, take=lambda: self._learner.knowledge.base)
        outcome = OfferOutcome(
            offer=offer.id,
            name=offer.name,
            state="refused" if reasons else "adopted",
            time_ms=self._now_ms(),
            version=self._learner.version,
            reasons=reasons,
            held=making.held.num,
            held_won=making.held.won,
            held_lost=making.held.lost,
            tried=making.tried.num,
            tried_won=making.tried.won,
            tried_lost=making.tried.lost,
        )
        self._store.offers.note(outcome)
        self._making = None
        log.info("offer_decided", name=offer.name, state=outcome.state, reasons=reasons)

    def _forget(self, making: OfferedEncoder) -> None:
        """Drops an offer whose place another took."""
        known = self._learner.knowledge
        if known.round is not None and known.round.making is making:
            known.round.wait()
            known.drop()
        self._making = None


def _with_encoder(offer: EncoderOffer, base: BaseEncoder, tokenizer: str) -> EncoderOffer:
    """Returns an offer of another head, under the encoder in use."""
    return msgspec.structs.replace(offer, config=base.strata.config.canonical_json(), tokenizer=tokenizer)
