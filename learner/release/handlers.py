"""What the learner does for each verb of an operator's command: the door `OperatorCommand`, and the table behind it.

    erase     digest   --> samples out of memories and sums
    relabel   change   --> memories, sums and evidence under the new names
    adopt     offer    --checks, blobs--> a round --> in use --> its first version; or reasons against it
    repair    digests  --cache, else the checkpoint of a version--> blobs

What is asked for is followed in the learner's thread, whose knowledge it changes. Before a command that is kept, labels
that the gate refused are set aside, so that no command is a way past the gate. The first version after an erasure is
published without a comparison: what the operator asks for may cost accuracy. The first version after a change of labels
is compared with its parent by the names of now. If the gate refuses the first version of an offered encoder all the
same, the learner goes back to the version before, as after `learner.max_refusals` others.

A blob that never changes is named by every version and written once. So without the learner nobody would notice that it
is damaged until a replica starts and cannot load anything. The store compares before it writes.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, Literal, Protocol

import msgspec
import structlog

from learner.encoder.base import BaseEncoder
from learner.encoder.served import StoredTensor
from learner.errors import OfferRefused
from learner.learner import Learner
from learner.relabelling import relabel
from learner.release.publisher import WeightPublisher
from learner.rounds.round import OfferedEncoder
from model.errors import ModelError
from model.head import PROJ
from model.qtensor import QTensor, from_blob
from wire.errors import NotFound, StoreUnavailable, WireError
from wire.records import (
    Command,
    CommandBody,
    CommandOutcome,
    EncoderOffer,
    Erase,
    LabelCommand,
    Repair,
    WeightManifest,
)
from wire.store import Store

log = structlog.get_logger("learner")

SUPERSEDED: Final = "superseded"
"""Why an offer is refused while it is open: another one was made."""

PAUSE_S: Final = 10.0
"""A digest that was checked is left alone for so long: a report stays in the store for some seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a command may change. Whatever takes seconds calls `keep_alive` now and then, which raises StaleEpoch."""

    learner: Learner
    store: Store
    publisher: WeightPublisher
    keep_alive: Callable[[], None]
    now_ms: Callable[[], int]
    clock_s: Callable[[], float] = time.monotonic

    def outcome(
        self,
        command: Command,
        state: Literal["applied", "published", "refused", "done"],
        numbers: Mapping[str, int],
        *,
        version: int = 0,
        reasons: tuple[str, ...] = (),
    ) -> CommandOutcome:
        """Returns what becomes of a command now."""
        return CommandOutcome(
            seq=command.seq,
            time_ms=self.now_ms(),
            state=state,
            version=version,
            reasons=reasons,
            numbers=dict(numbers),
        )


class OperatorCommand(Protocol):
    """Follows the commands of one verb. Each learner has one of its own, which belongs to its thread."""

    body: ClassVar[type[CommandBody]]

    def apply(self, context: Context, command: Command, body: Any) -> CommandOutcome | None:
        """Follows the command; returns what became of it, or None while it is open: then it is asked again soon.

        One whose body `IS_KEPT` becomes `applied` at once, and is idempotent: it is followed again where what is known
        lacks it. What raises a WireError has changed nothing, and is asked again.
        """


class EraseSubject:
    """Takes out everything about a subject. It may take seconds."""

    body: ClassVar[type[CommandBody]] = Erase

    def apply(self, context: Context, command: Command, body: Erase) -> CommandOutcome:
        learner = context.learner
        learner.erased.add(body.digest)
        # After a way back the first erasure takes out all that were done before.
        removed = learner.erase(keep_alive=context.keep_alive) if learner.erased.is_due else {}
        learner.counts["erasures"] += 1
        context.publisher.start_over()
        log.info("erased", command=command.seq, removed=removed)
        return context.outcome(command, "applied", removed)


class RelabelClasses:
    """Changes the set of labels."""

    body: ClassVar[type[CommandBody]] = LabelCommand

    def apply(self, context: Context, command: Command, body: LabelCommand) -> CommandOutcome:
        return context.outcome(command, "applied", relabel(context.learner, body))


class AdoptEncoder:
    """Follows offers of encoders. The round of an offer takes the place of one that trains, whatever its phase."""

    body: ClassVar[type[CommandBody]] = EncoderOffer

    def __init__(self) -> None:
        self._making: OfferedEncoder | None = None

    def apply(self, context: Context, command: Command, body: EncoderOffer) -> CommandOutcome | None:
        known = context.learner.knowledge
        if context.learner.commands.last_of(EncoderOffer.VERB) > command.seq:
            self._forget(context)
            return self._decided(context, command, body, (SUPERSEDED,))
        if known.base.adopted is not None and known.base.adopted.offer == body.id:
            return self._await_version(context, command, body)
        if self._making is None and (reason := self._begin(context, body)):
            return self._decided(context, command, body, (reason,))
        assert self._making is not None, "it was begun"
        if self._making.refusals is None:
            _consider(context.learner, self._making)
            return None
        # Where it was adopted, the learner has gone back since.
        withdrawn = context.publisher.refusals or ("its first version was withdrawn",)
        return self._decided(context, command, body, self._making.refusals or withdrawn)

    def _begin(self, context: Context, offer: EncoderOffer) -> str:
        """Makes the round of an offer ready; returns why there is none, or ""."""
        known = context.learner.knowledge
        served = known.fast_head.served
        if not offer.tensors:
            config = known.base.strata.config.canonical_json()
            offer = msgspec.structs.replace(offer, config=config, tokenizer=served.tokenizer.digest)
        bases = context.learner.bases
        reason = bases.why_not(offer, known.base)
        if not reason:
            held = {name: stored.tensor for name, stored in served.tensors.items() if name != PROJ}
            take = partial(_take, context, offer, held, known.base)
            self._making = OfferedEncoder(offer=offer, take=take)
            log.info("encoder_offered", name=offer.name, offer=offer.id)
        return reason

    def _await_version(self, context: Context, command: Command, offer: EncoderOffer) -> CommandOutcome | None:
        """Returns that the offer was adopted, once its first version is published; goes back if that is refused."""
        last = context.publisher.last
        if last is not None and last.version.base == context.learner.knowledge.base.key:
            return self._decided(context, command, offer, ())
        if context.learner.progress.num_refused:
            context.publisher.give_up_refused()
        return None

    def _decided(
        self, context: Context, command: Command, offer: EncoderOffer, reasons: tuple[str, ...]
    ) -> CommandOutcome:
        numbers: dict[str, int] = {}
        if self._making is not None:
            for name, paired in (("held", self._making.holdout_result), ("tried", self._making.trial_result)):
                numbers |= {name: paired.num, f"{name}_won": paired.won, f"{name}_lost": paired.lost}
        state: Literal["refused", "published"] = "refused" if reasons else "published"
        outcome = context.outcome(command, state, numbers, version=context.learner.version, reasons=reasons)
        context.store.commands.close_offer(outcome, offer.name)
        self._making = None
        log.info("offer_decided", name=offer.name, state=state, reasons=reasons)
        return outcome

    def _forget(self, context: Context) -> None:
        """Drops the offer whose place another took."""
        known = context.learner.knowledge
        if known.round is not None and known.round.source is self._making:
            known.round.wait()
            known.drop()
        self._making = None


def _consider(learner: Learner, making: OfferedEncoder) -> None:
    """Begins the round of an offer. What a round trains would be for nothing, and takes a minute under load."""
    known = learner.knowledge
    if known.round is not None and known.round.trained and known.round.is_ready:
        log.info("round_dropped", round=known.round.number, reason=f"the encoder {making.offer.name} is offered")
        known.drop()
    if known.round is None:
        known.consider(making)


def _take(context: Context, offer: EncoderOffer, held: Mapping[str, QTensor], current: BaseEncoder) -> BaseEncoder:
    """Fetches and verifies the weights, in the thread of slow work. `held` are those of the encoder in use."""
    tensors: dict[str, QTensor] = {}
    try:
        for entry in offer.tensors:
            tensors[entry.name] = from_blob(entry, context.store.blobs.get(entry.digest, entry.num_bytes))
    except (WireError, ModelError) as error:
        raise OfferRefused(str(error), may_retry=isinstance(error, StoreUnavailable)) from error
    return context.learner.bases.take(offer, tensors or held, current)


class RepairBlobs:
    """Compares blobs with what the learner makes of them, and writes those that are damaged."""

    body: ClassVar[type[CommandBody]] = Repair

    def apply(self, context: Context, command: Command, body: Repair) -> CommandOutcome:
        return context.outcome(command, "done", repair(context, body.digests), version=context.learner.version)


def repair(context: Context, digests: Iterable[str]) -> Counter[str]:
    """Repairs these blobs, as far as they are damaged and the learner has them; returns how many were what.

    It takes as long as reading them.
    """
    cache = context.publisher.cache
    found = Counter[str]()
    for digest in sorted(digests):
        stored = cache.of(digest) or _remake(context, digest)
        if stored is None:
            found["not_at_hand"] += 1
            context.learner.counts["blobs_not_at_hand"] += 1
            log.error("blob_not_at_hand", digest=digest)
        elif context.store.blobs.repair(stored.tensor.to_blob()):
            found["repaired"] += 1
            context.learner.counts["blobs_repaired"] += 1
            log.warning("blob_repaired", tensor=stored.entry.name, digest=digest)
        else:
            found["sound"] += 1
        cache.suspects.discard(digest)
    return found


def _remake(context: Context, digest: str) -> StoredTensor | None:
    """Makes the tensor under `digest` again, from the checkpoint of a version in force that names it, if any."""
    for manifest in _versions_in_force(context):
        if any(entry.digest == digest for entry in manifest.tensors):
            context.publisher.refill_cache(manifest)
    return context.publisher.cache.of(digest)


def _versions_in_force(context: Context) -> Iterator[WeightManifest]:
    plan = context.store.plans.read()
    for version in sorted({context.learner.version, *(plan.needed if plan else ())}):
        try:
            yield context.store.versions.manifest(version)
        except NotFound:
            continue


class Suspects:
    """Knows which blobs may be damaged: those that replicas report, that a publication failed for, and now and then all
    of the current version. `verify_every_s`: the time between two looks at all of them; 0 for never."""

    def __init__(self, context: Context, *, verify_every_s: float) -> None:
        self._context = context
        self._verify_every_s = verify_every_s
        self._verify_at_s = context.clock_s() + verify_every_s
        self._checked_at_s: dict[str, float] = {}

    def repair(self) -> None:
        """Repairs the blobs that are suspect."""
        for digest in sorted(self._found()):
            repair(self._context, [digest])
            self._checked_at_s[digest] = self._context.clock_s()

    def _found(self) -> set[str]:
        now_s = self._context.clock_s()
        publisher = self._context.publisher
        if self._verify_every_s and now_s >= self._verify_at_s:
            self._verify_at_s = now_s + self._verify_every_s
            if publisher.last is not None:
                publisher.cache.suspect(publisher.last.tensors)
        long_ago_s = now_s - PAUSE_S
        self._checked_at_s = {digest: at_s for digest, at_s in self._checked_at_s.items() if at_s > long_ago_s}
        reported = set[str]()
        for report in self._context.store.reports.replicas():
            reported |= set(report.damaged)
        return publisher.cache.suspects | (reported - self._checked_at_s.keys())


HANDLERS: Final[dict[str, type[OperatorCommand]]] = {}
"""The handlers, by their verbs."""


def register(handler: type[OperatorCommand]) -> None:
    """Adds the handler of a verb. Raises ValueError where it is none, or the verb has one."""
    body = getattr(handler, "body", None)
    if not (isinstance(body, type) and issubclass(body, CommandBody) and callable(getattr(handler, "apply", None))):
        raise ValueError(f"{handler.__name__} is no OperatorCommand: it needs `body`, a CommandBody, and `apply`")
    if body.VERB in HANDLERS:
        raise ValueError(f"{handler.__name__}: {HANDLERS[body.VERB].__name__} follows the verb {body.VERB!r} already")
    HANDLERS[body.VERB] = handler


for _handler in (EraseSubject, RelabelClasses, AdoptEncoder, RepairBlobs):
    register(_handler)
