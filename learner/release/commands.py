"""What is asked of the learner through the store: erasures, changes of labels, encoders, and damaged blobs.

    in the learner's turns, while the store is there, once a second at most:
    digests    --Eraser-----> samples out of memories and sums --> next version --> older ones gone --> note
    commands   --Relabeller-> memories, sums and evidence under the new names --> next version --> note
    offer      --Adopter----> checks, blobs --a round--> in use --> first version --> note; or reasons --> note
    reports, refusals, now and then the current version
               --Repairer---> digests --cache, else the checkpoint of its version--> store.blobs.repair

All of it is idempotent and belongs to the learner's thread, whose knowledge it changes. An erasure, the number of a
command that was followed and an encoder that was adopted are in the checkpoint from the moment when they have their
effect, and every manifest made afterwards has the numbers. Requests and commands are never withdrawn. So reading them
again, after a kill, a rollback or in another store, changes nothing, and a store that was wiped gets them back from the
checkpoint. A learner that is killed before the checkpoint with the encoder of an offer finds the offer open, and
decides on it again; a refusal changes nothing but the note.

Labels that the gate refused before are set aside before an erasure or a change of labels, so that neither is a way past
the gate. The first version after an erasure is published without a comparison: what the operator asks for may cost
accuracy. The first version after a change of labels is compared with its parent by the names of now. If the gate
refuses the first version of an offered encoder all the same, the learner goes back to the version before, as after
`learner.max_refusals` others.

A blob that never changes is named by every version and written once. So without the learner nobody would notice that it
is damaged until a replica starts and cannot load anything. The store compares before it writes.

Rejected: a thread for the questions (what is asked for changes what the learner knows), encoders from a folder of the
learner's machine (an operator would have to copy them there, and nobody had verified them), a decision on an offer by
its first version alone (labels of some seconds would have to be set aside each time), publishing another version in
place of a repair (it names the same encoder), and verifying before each publication (an encoder that never changes
would be fetched for every version).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import msgspec
import structlog

from learner.encoder.base import BaseEncoder
from learner.encoder.served import StoredTensor
from learner.errors import CheckpointFailed, OfferRefused
from learner.leadership import Leadership
from learner.learner import Learner
from learner.relabelling import follow_settings, relabel
from learner.release.publisher import WeightPublisher
from learner.rounds.round import OfferedEncoder
from learner.state.checkpoints import Checkpoints
from model.errors import ModelError
from model.head import PROJ
from model.qtensor import QTensor, from_blob
from wire.errors import NotFound, StaleEpoch, StoreUnavailable, WireError
from wire.records import EncoderOffer, Erasure, LabelCommand, LabelOutcome, OfferOutcome, WeightManifest
from wire.store import FOREIGN, Store

INTERVAL_S = 1.0
"""Shortest time between two questions."""

log = structlog.get_logger("learner")


class StoreTurns:
    """Belongs to the learner's thread. A question that fails counts as `count`, and is logged as `event`."""

    def __init__(
        self,
        leadership: Leadership,
        counts: Counter[str],
        *,
        count: str,
        event: str,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._breaker = leadership.breaker
        self._counts = counts
        self._count = count
        self._event = event
        self._clock_s = clock_s
        self._next_s = 0.0

    def take(self, ask: Callable[[], None]) -> None:
        """Calls `ask`, at most every INTERVAL_S, while the store is there. Raises StaleEpoch."""
        if self._clock_s() < self._next_s or not self._breaker.allows_requests:
            return
        self._next_s = self._clock_s() + INTERVAL_S
        try:
            ask()
        except StaleEpoch:
            raise
        except StoreUnavailable as error:
            self._breaker.trip(error)
        except WireError as error:
            self._counts[self._count] += 1
            log.warning(self._event, reason=str(error))


class Eraser:
    """Belongs to the learner's thread. `carry_out` may take seconds, and ends early when another learner leads.

    `_listed` are the requested digests that were read. `_noted` is what the store was told of each erasure.
    """

    def __init__(
        self,
        learner: Learner,
        store: Store,
        checkpoints: Checkpoints,
        publisher: WeightPublisher,
        *,
        leadership: Leadership,
        now_ms: Callable[[], int],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._store = store
        self._checkpoints = checkpoints
        self._publisher = publisher
        self._leadership = leadership
        self._now_ms = now_ms
        self._turns = StoreTurns(
            leadership, learner.counts, count="erasures_not_told", event="erasures_not_told", clock_s=clock_s
        )
        self._listed: list[str] = []
        self._noted: dict[str, Erasure] = {}

    def carry_out(self) -> None:
        """Reads the requests now and then, and carries out those that are new or due again.

        Raises StaleEpoch.
        """
        self._turns.take(self._carry_out_requests)
        if self._learner.erased.is_due:  # the learner went back to what it knew before
            self._learner.erase(keep_alive=self._leadership.check)
            self._publisher.start_over()

    def _carry_out_requests(self) -> None:
        for digest in self._new_requests():
            self._erase(digest)
        self._mark_purged()
        self._note_changes()

    def _new_requests(self) -> list[str]:
        """Returns the digests that were requested since the last read and are not erased yet."""
        listed = self._store.erasures.requested(max(len(self._listed) - 1, 0))
        if self._listed and listed[:1] != self._listed[-1:]:  # another list: the store was wiped
            self._listed = []
            for erasure in self._learner.erased:
                self._store.erasures.request(erasure.digest)
            listed = self._store.erasures.requested(0)
            self._noted = {}
        self._listed += listed[1:] if self._listed else listed
        return [digest for digest in listed if digest != FOREIGN and digest not in self._learner.erased]

    def _erase(self, digest: str) -> None:
        learner = self._learner
        self._publisher.complete(wait=True)  # the version on its way still knows the subject
        self._publisher.give_up_refused()
        learner.erased.add(digest, time_ms=self._now_ms())
        removed = learner.erase(keep_alive=self._leadership.check)
        learner.progress.break_off()
        learner.counts["erasures"] += 1
        number = len(learner.erased)
        learner.erased.replace(Erasure(digest=digest, number=number, time_ms=self._now_ms(), removed=removed))
        self._publisher.start_over()
        log.info("erased", number=number, removed=removed)

    def _mark_purged(self) -> None:
        """Marks the erasures before which no version and no checkpoint is left, here and at the shared address."""
        waiting = [erasure for erasure in self._learner.erased if erasure.version and not erasure.is_purged]
        if not waiting:
            return
        try:
            self._publisher.writer.prune()
        except CheckpointFailed as error:
            # The disk refuses the checkpoint that is being written: the next turn tries again.
            log.warning("purge_failed", reason=str(error))
            return
        in_checkpoints = [entry.version for entry in self._checkpoints.entries() if entry.version]
        oldest = min([*self._store.versions.stored(), *in_checkpoints], default=0)
        gone = [erasure for erasure in waiting if erasure.version <= oldest]
        if gone and not self._checkpoints.is_older_elsewhere():
            for erasure in gone:
                self._learner.erased.replace(msgspec.structs.replace(erasure, is_purged=True))

    def _note_changes(self) -> None:
        """Writes to the store what has changed of the erasures since it was told last."""
        for erasure in self._learner.erased:
            if self._noted.get(erasure.digest) != erasure:
                self._store.erasures.note(erasure)
                self._noted[erasure.digest] = erasure


class Relabeller:
    """Belongs to the learner's thread. `_outcomes` has what the store does not know yet of commands, by number."""

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
            leadership, learner.counts, count="label_commands_unread", event="label_commands_unread", clock_s=clock_s
        )
        self._outcomes: dict[int, LabelOutcome] = {}
        self._has_read = False

    def carry_out(self) -> None:
        """Reads the commands now and then, and follows those that are new, or that what is known does not know.

        Raises StaleEpoch.
        """
        self._turns.take(self._ask)
        learner = self._learner
        follow_settings(learner)
        while learner.knowledge.labels.number < len(learner.label_commands):
            self._follow(learner.label_commands[learner.knowledge.labels.number])

    def _ask(self) -> None:
        if self._read():
            self._find_unpublished()
        self._note()

    def _read(self) -> bool:
        """Reads the new commands; whether they are the first that this process reads, or the store was wiped."""
        known = self._learner.label_commands
        commands = tuple(self._store.labels.requested(max(len(known) - 1, 0)))
        is_first = not self._has_read
        if known and commands[:1] != known[-1:]:
            for command in known:
                self._store.labels.request(command)
            commands = known[-1:]
            is_first = True
        self._learner.label_commands += commands[1:] if known else commands
        self._has_read = True
        return is_first

    def _find_unpublished(self) -> None:
        """Finds the commands that were followed, of which the store knows no version."""
        for number in range(1, self._learner.knowledge.labels.number + 1):
            noted = self._store.labels.outcome(number)
            if noted is None or not noted.version:
                self._outcomes[number] = noted or LabelOutcome(number=number, time_ms=self._now_ms())

    def _follow(self, command: LabelCommand) -> None:
        self._publisher.complete(wait=True)  # the version on its way has the labels of before
        self._publisher.give_up_refused()
        samples = relabel(self._learner, command)
        self._publisher.parent.make_due()
        self._outcomes[command.number] = LabelOutcome(number=command.number, time_ms=self._now_ms(), samples=samples)

    def _note(self) -> None:
        """Writes to the store what became of the commands, and in which version, as soon as there is one."""
        version = self._learner.version
        if not self._outcomes or not version:
            return
        try:
            num_followed = self._store.versions.manifest(version).label_commands
        except NotFound:  # the store was wiped: the next version is published soon
            return
        for number, outcome in list(self._outcomes.items()):
            is_published = num_followed >= number
            self._store.labels.note(msgspec.structs.replace(outcome, version=version if is_published else 0))
            if is_published:
                del self._outcomes[number]


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


PAUSE_S = 10.0
"""A digest that was checked is left alone for so long: a report stays in the store for some seconds."""


class Repairer:
    """Belongs to the learner's thread; `repair` takes as long as reading what is suspect."""

    def __init__(
        self,
        learner: Learner,
        store: Store,
        publisher: WeightPublisher,
        *,
        leadership: Leadership,
        verify_every_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._store = store
        self._publisher = publisher
        self._verify_every_s = verify_every_s
        self._clock_s = clock_s
        self._turns = StoreTurns(
            leadership, learner.counts, count="repairs_failed", event="repair_failed", clock_s=clock_s
        )
        self._verify_at_s = clock_s() + verify_every_s
        self._checked_at_s: dict[str, float] = {}

    def repair(self) -> None:
        """Repairs the blobs that are suspect, now and then."""
        self._turns.take(self._repair_suspects)

    def _repair_suspects(self) -> None:
        for digest in sorted(self._suspects()):
            self._repair_blob(digest)

    def _suspects(self) -> set[str]:
        if self._verify_every_s and self._clock_s() >= self._verify_at_s:
            self._verify_at_s = self._clock_s() + self._verify_every_s
            self._suspect_all()
        long_ago_s = self._clock_s() - PAUSE_S
        self._checked_at_s = {digest: at_s for digest, at_s in self._checked_at_s.items() if at_s > long_ago_s}
        reported = set[str]()
        for report in self._store.reports.replicas():
            reported |= set(report.damaged)
        return self._publisher.cache.suspects | (reported - self._checked_at_s.keys())

    def _suspect_all(self) -> None:
        """Suspects every tensor of the current version, so that it is verified."""
        current = self._publisher.last
        if current is not None:
            self._publisher.cache.suspect(current.tensors)

    def _repair_blob(self, digest: str) -> None:
        cache = self._publisher.cache
        counts = self._learner.counts
        stored = cache.of(digest) or self._remake(digest)
        if stored is None:
            counts["blobs_not_at_hand"] += 1
            log.error("blob_not_at_hand", digest=digest)
        elif self._store.blobs.repair(stored.tensor.to_blob()):
            counts["blobs_repaired"] += 1
            log.warning("blob_repaired", tensor=stored.entry.name, digest=digest)
        cache.suspects.discard(digest)
        self._checked_at_s[digest] = self._clock_s()

    def _remake(self, digest: str) -> StoredTensor | None:
        """Makes the tensor under `digest` again, from the checkpoint of a version in force that names it, if any."""
        for manifest in self._versions_in_force():
            if any(entry.digest == digest for entry in manifest.tensors):
                self._publisher.refill_cache(manifest)
        return self._publisher.cache.of(digest)

    def _versions_in_force(self) -> Iterator[WeightManifest]:
        plan = self._store.plans.read()
        for version in sorted({self._learner.version, *(plan.needed if plan else ())}):
            try:
                yield self._store.versions.manifest(version)
            except NotFound:
                continue
