"""The handlers of the operators' commands: the interface `OperatorCommand`, and the handler of each verb.

    erase     digest of a subject  --> samples are removed from the sums, the replay buffer and the holdout
    relabel   change of the labels --> samples, sums and evidence under the new names
    adopt     offered encoder      --checks, blobs--> a round --> the encoder in use --> its first version; or a refusal
    repair    digests of blobs     --from the cache, or the checkpoint of a version--> blobs

Commands are executed in the learner's thread, since they change the knowledge. Before a kept command is executed,
labels that the gate has refused are set aside. Otherwise a command could bring them past the gate. The first version
after an erasure is not compared with another version, since the operator accepts that an erasure may cost accuracy. The
first version after a change of labels is compared with its parent under the new names. If the gate refuses the first
version of an offered encoder, the learner goes back to the previous version at once, without waiting for
`learner.max_refusals`.

Most blobs never change: every version lists them, but they were written only once. So nobody would notice that one is
damaged until a replica starts and cannot load anything. Therefore the learner verifies the blobs at intervals. A repair
writes only the damaged ones.
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
"""The reason for the refusal of an offer if a newer offer comes before it is decided."""

PAUSE_S: Final = 10.0
"""The shortest time between two checks of a reported blob, since the report stays in the store for some seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The objects that a handler may use and change.

    A handler that takes seconds must call `keep_alive` now and then, which raises StaleEpoch.
    """

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
        """Returns an outcome of a command, as of now."""
        return CommandOutcome(
            seq=command.seq,
            time_ms=self.now_ms(),
            state=state,
            version=version,
            reasons=reasons,
            numbers=dict(numbers),
        )


class OperatorCommand(Protocol):
    """The handler of one verb of operators' commands. Each learner has its own, which belongs to its thread."""

    body: ClassVar[type[CommandBody]]

    def apply(self, context: Context, command: Command, body: Any) -> CommandOutcome | None:
        """Executes the command; returns its outcome, or None while there is none. After None it is called again soon.

        - If the body `IS_KEPT`, the outcome must be `applied` at once.
        - If the body `IS_KEPT`, `apply` must be idempotent: it is called again if the knowledge lacks the command.
        - If `apply` raises a WireError, it must have changed nothing. It is called again.
        """


class EraseSubject:
    """Handles `erase`: removes everything about a subject from the learner. It may take seconds."""

    body: ClassVar[type[CommandBody]] = Erase

    def apply(self, context: Context, command: Command, body: Erase) -> CommandOutcome:
        learner = context.learner
        learner.erased.add(body.digest)
        # After a return to an earlier version, the first erasure removes the subjects of all earlier erasures, too.
        removed = learner.erase(keep_alive=context.keep_alive) if learner.erased.is_due else {}
        learner.counts["erasures"] += 1
        context.publisher.start_over()
        log.info("erased", command=command.seq, removed=removed)
        return context.outcome(command, "applied", removed)


class RelabelClasses:
    """Handles `relabel`: adds, renames, merges, splits or retires classes."""

    body: ClassVar[type[CommandBody]] = LabelCommand

    def apply(self, context: Context, command: Command, body: LabelCommand) -> CommandOutcome:
        return context.outcome(command, "applied", relabel(context.learner, body))


class AdoptEncoder:
    """Handles `adopt`: decides whether an offered encoder replaces the current one.

    The decision takes a slow round, which replaces a training round that is under way.
    """

    body: ClassVar[type[CommandBody]] = EncoderOffer

    def __init__(self) -> None:
        self._making: OfferedEncoder | None = None

    def apply(self, context: Context, command: Command, body: EncoderOffer) -> CommandOutcome | None:
        known = context.learner.knowledge
        if context.learner.commands.last_one_time(EncoderOffer.VERB) > command.seq:
            self._cancel(context)
            return self._decide(context, command, body, (SUPERSEDED,))
        if known.base.adopted is not None and known.base.adopted.offer == body.id:
            return self._await_version(context, command, body)
        if self._making is None and (reason := self._begin(context, body)):
            return self._decide(context, command, body, (reason,))
        assert self._making is not None, "the round was prepared"
        if self._making.refusals is None:
            _begin_round(context.learner, self._making)
            return None
        # If there are no refusals, the round has adopted the encoder, but the learner has gone back to another since.
        withdrawn = context.publisher.refusals or ("its first version was withdrawn",)
        return self._decide(context, command, body, self._making.refusals or withdrawn)

    def _begin(self, context: Context, offer: EncoderOffer) -> str:
        """Prepares the round of an offer. Returns the reason for a refusal; "" if there is none."""
        known = context.learner.knowledge
        served = known.fast_head.served
        # An offer without tensors keeps the current encoder, and only changes the size of the head.
        if not offer.tensors:
            config = known.base.strata.config.canonical_json()
            offer = msgspec.structs.replace(offer, config=config, tokenizer=served.tokenizer.digest)
        bases = context.learner.bases
        reason = bases.offer_problem(offer, known.base)
        if not reason:
            current = {name: stored.tensor for name, stored in served.tensors.items() if name != PROJ}
            take = partial(_fetch_encoder, context, offer, current, known.base)
            self._making = OfferedEncoder(offer=offer, take=take)
            log.info("encoder_offered", name=offer.name, offer=offer.id)
        return reason

    def _await_version(self, context: Context, command: Command, offer: EncoderOffer) -> CommandOutcome | None:
        """Waits until the first version with an adopted encoder is published. If the gate refuses it, goes back."""
        last = context.publisher.last
        if last is not None and last.version.base == context.learner.knowledge.base.key:
            return self._decide(context, command, offer, ())
        if context.learner.progress.num_refused:
            context.publisher.give_up_refused()
        return None

    def _decide(
        self, context: Context, command: Command, offer: EncoderOffer, reasons: tuple[str, ...]
    ) -> CommandOutcome:
        """Closes an offer: it is refused if there are reasons, and otherwise published. Raises WireError."""
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

    def _cancel(self, context: Context) -> None:
        """Drops the round of the current offer, because a newer offer has come."""
        known = context.learner.knowledge
        if known.round is not None and known.round.source is self._making:
            known.round.wait()
            known.drop()
        self._making = None


def _begin_round(learner: Learner, making: OfferedEncoder) -> None:
    """Begins the round of an offer, unless it has begun. Drops a training round for it."""
    known = learner.knowledge
    # A training round takes up to a minute, and the offered encoder would replace its result at once.
    if known.round is not None and known.round.trained and known.round.is_ready:
        log.info("round_dropped", round=known.round.number, reason=f"the encoder {making.offer.name} is offered")
        known.drop()
    if known.round is None:
        known.consider(making)


def _fetch_encoder(
    context: Context, offer: EncoderOffer, current: Mapping[str, QTensor], base: BaseEncoder
) -> BaseEncoder:
    """Fetches an offered encoder from the store, and verifies it. Runs in the thread of slow rounds.

    `current` are the tensors of the current encoder, which an offer without tensors keeps. Raises OfferRefused.
    """
    tensors: dict[str, QTensor] = {}
    try:
        for entry in offer.tensors:
            tensors[entry.name] = from_blob(entry, context.store.blobs.get(entry.digest, entry.num_bytes))
    except (WireError, ModelError) as error:
        raise OfferRefused(str(error), may_retry=isinstance(error, StoreUnavailable)) from error
    return context.learner.bases.take(offer, tensors or current, base)


class RepairBlobs:
    """Handles `repair`: compares blobs of the store with the learner's tensors, and writes the damaged ones again."""

    body: ClassVar[type[CommandBody]] = Repair

    def apply(self, context: Context, command: Command, body: Repair) -> CommandOutcome:
        return context.outcome(command, "done", repair(context, body.digests), version=context.learner.version)


def repair(context: Context, digests: Iterable[str]) -> Counter[str]:
    """Verifies blobs, and repairs the damaged ones. Returns how many were `sound`, `repaired` and `not_at_hand`.

    A blob is not at hand if the learner cannot make its tensor again. Reads each blob from the store, which takes time.
    Raises WireError.
    """
    cache = context.publisher.cache
    counts = Counter[str]()
    for digest in sorted(digests):
        stored = cache.find(digest) or _remake(context, digest)
        if stored is None:
            counts["not_at_hand"] += 1
            context.learner.counts["blobs_not_at_hand"] += 1
            log.error("blob_not_at_hand", digest=digest)
        elif context.store.blobs.repair(stored.tensor.to_blob()):
            counts["repaired"] += 1
            context.learner.counts["blobs_repaired"] += 1
            log.warning("blob_repaired", tensor=stored.entry.name, digest=digest)
        else:
            counts["sound"] += 1
        cache.suspects.discard(digest)
    return counts


def _remake(context: Context, digest: str) -> StoredTensor | None:
    """Makes the tensor with this digest again, from the checkpoint of a current version; None if that fails."""
    for manifest in _current_manifests(context):
        if any(entry.digest == digest for entry in manifest.tensors):
            context.publisher.refill_cache(manifest)
    return context.publisher.cache.find(digest)


def _current_manifests(context: Context) -> Iterator[WeightManifest]:
    """Yields the manifests of the learner's version and of the versions that the rollout plan needs."""
    plan = context.store.plans.read()
    for version in sorted({context.learner.version, *(plan.needed if plan else ())}):
        try:
            yield context.store.versions.manifest(version)
        except NotFound:
            continue


class SuspectBlobs:
    """Finds the blobs that may be damaged, and repairs them. A blob is suspect if

    - a replica reports it as damaged,
    - a publication has failed because of it, or
    - it belongs to the last published version, every `verify_every_s` seconds (0: never).
    """

    def __init__(self, context: Context, *, verify_every_s: float) -> None:
        self._context = context
        self._verify_every_s = verify_every_s
        self._verify_at_s = context.clock_s() + verify_every_s
        self._checked_at_s: dict[str, float] = {}

    def repair(self) -> None:
        """Verifies the suspect blobs, and repairs the damaged ones. Raises WireError."""
        for digest in sorted(self._find()):
            repair(self._context, [digest])
            self._checked_at_s[digest] = self._context.clock_s()

    def _find(self) -> set[str]:
        """Returns the digests of the suspect blobs, except reported ones that were checked less than PAUSE_S ago."""
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
    """Adds a handler to HANDLERS. Raises ValueError if it is not an OperatorCommand, or if its verb has a handler."""
    body = getattr(handler, "body", None)
    if not (isinstance(body, type) and issubclass(body, CommandBody) and callable(getattr(handler, "apply", None))):
        raise ValueError(f"{handler.__name__} is not an OperatorCommand: it needs `body`, a CommandBody, and `apply`")
    if body.VERB in HANDLERS:
        raise ValueError(f"{handler.__name__}: {HANDLERS[body.VERB].__name__} executes the verb {body.VERB!r} already")
    HANDLERS[body.VERB] = handler


for _handler in (EraseSubject, RelabelClasses, AdoptEncoder, RepairBlobs):
    register(_handler)
