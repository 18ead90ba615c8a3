"""The domain stage: pretrains the encoder of a running service on the service's own events, without labels.

    events --some texts--> vectors --distance to the nearest known text--> ADWIN --a rise--> the texts have moved
    `new_texts` more texts --> offsets --stage.json--> texts of the topic below them --pretrain--> encoder
    encoder --offer--> the learner's gate --> a version --> the rollout, as after any change of the encoder
    an adopted encoder --the next one is adopted--> only its `seen.json`

The known texts are the first `known_texts` of the service's run, or of the time after the last stage. Their vectors
come from one encoder, which no slow round changes, so distances can be compared at any time. The rise must be as large
as the rise that unfreezes the domain tier of slow rounds (`learner.drift`).

The texts of a stage are all texts that the topic still has, also those from before the change: an encoder that is
trained on the new texts alone forgets the old ones. `stage.json` has the offsets up to which a stage reads, so a stage
that was stopped or killed reads the same texts again, and goes on from its checkpoint.

Texts of erased subjects are left out, and the encoder's folder says whose texts it has seen (`services.members.texts`).
"""

import random
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog
import torch
from torch import Tensor

from learner.drift import Detector, Rise, tier_for
from learner.errors import DataError
from lifelong.compress.pretrain import MixOptions
from model.config import StrataConfig
from model.encoders import open_inputs, packed
from model.member import TOKENIZER, Member, read_member, write_member
from model.qtensor import QTensor
from model.ragged import RaggedBatch
from model.source import encoder_folder
from model.weights import to_strata
from services.exported import fetch_tensors
from services.members.adopt import AdoptOptions, Decided, offer, stored_weights
from services.members.pretrain import Pretrained, PretrainRequest, Stopped, pretrain
from services.members.source import Say, history_step
from services.members.texts import FOLDER, SEEN, Limits, Selected, SourcedText, retire, select
from services.operator_commands import NotDoneYet, await_outcome
from services.settings import Settings
from wire.bus import Bus, read_all_records
from wire.files import atomic_write
from wire.keyring import KeyRing, subject_digest
from wire.records import Erase, Event, WeightManifest
from wire.store import Store

DELTA: Final = 0.002
"""Significance of ADWIN. The signal has no labels, and a false alarm costs minutes of training."""

POLL_MS: Final = 1_000

STATE: Final = "stage.json"

SOURCE: Final = "domain"
"""The source of the offers in the operator log."""

SERVED: Final = "served"
"""The step in the history of an encoder that was a version of the service."""

log = structlog.get_logger("domain")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageOptions:
    """When a stage begins, and how it trains."""

    known_texts: int = 500
    """The texts whose vectors stand for the known domain."""
    texts_per_poll: int = 16
    """The most texts of a poll whose distances are measured: some 16 texts a second, a few percent of a core."""
    new_texts: int = 2_000
    """The number of texts after the change for which a stage waits."""
    passes: float = 2.0
    """How often the training reads each token."""
    first_layer: int = 3
    """The layers below, and the embedding, are not trained."""
    rate: float = 5e-5
    share: float = 0.5
    """The share of the time in which the training computes: in the rest, answers have processor and memory alone."""
    max_tokens: int = 64
    decides_within_s: float = 900.0
    """How long the stage waits for the learner's decision."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A stage that has begun: the folder of the encoder before it, and the offsets below which it reads texts."""

    encoder: str
    until: dict[str, int]


class DomainWatch:
    """Detects, without labels, that the texts of a stream have moved away from the known ones. Verb: add.

    `encode` returns the vectors z_BD of texts, which have unit length.
    """

    def __init__(self, encode: Callable[[Sequence[str]], Tensor], *, num_known: int) -> None:
        self._encode = encode
        self._num_known = num_known
        self._known_KD = torch.empty(0)
        self._detector = Detector(DELTA)

    def add(self, texts: Sequence[str]) -> Rise | None:
        """Adds texts in the order of the stream. Returns the rise of their distances if they have moved away."""
        if not texts:
            return None
        z_BD = self._encode(texts)
        num_missing = self._num_known - len(self._known_KD)
        if num_missing:
            self._known_KD = torch.cat([self._known_KD, z_BD[:num_missing]])
        nearest_B = (z_BD[num_missing:] @ self._known_KD.T).amax(dim=1)
        for distance in (1 - nearest_B).tolist():
            rise = self._detector.add(distance)
            if rise is not None and tier_for(rise.effect):
                return rise
        return None


class DomainStages:
    """Watches the events of a service, and pretrains its encoder whenever their texts have moved. Verb: run.

    A stage begins with the encoder of the learner's current version, which slow rounds and earlier stages have trained.
    The first of `stores` is the store of the default task. `ring` has the key of the digests of subjects.
    """

    def __init__(
        self, settings: Settings, bus: Bus, stores: Sequence[Store], ring: KeyRing, options: StageOptions, *, say: Say
    ) -> None:
        self._bus = bus
        self._stores = stores
        self._ring = ring
        self._options = options
        self._encoder = settings.encoder
        self._max_tokens = settings.serving.max_tokens
        self._learner = settings.learner
        self._state_dir = settings.state_dir
        self._say = say
        self._path = self._state_dir / FOLDER / STATE

    def run(self, stop: threading.Event) -> None:
        """Watches and trains until `stop` is set.

        consumes: events; produces: offers of encoders; waits for: the broker, the learner; unblocked by: stop
        """
        with suppress(Stopped):
            self._run(stop)

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            if self._path.exists():
                stage = msgspec.json.decode(self._path.read_bytes(), type=Stage)
            else:
                until = self._wait_until_moved(stop)
                if until is None:
                    return
                stage = self.begin(until)
            made = self.pretrain(stage, stop)
            if stop.is_set():
                return
            is_adopted = self.offer(made, stop)
            # First the stage ends, since it cannot be resumed without its folders.
            self._path.unlink()
            shutil.rmtree(stage.encoder)
            if is_adopted:
                self._retire_all_but(Path(made.folder))
            else:
                shutil.rmtree(made.folder)

    def _retire_all_but(self, newest: Path) -> None:
        """Removes the weights of earlier stages, except an encoder that the settings name.

        The newest encoder was made from the earlier ones.
        """
        kept = {newest.resolve(), encoder_folder(self._encoder).resolve()}
        for path in self._path.parent.glob(f"*/{SEEN}"):
            if path.parent.resolve() not in kept and is_of_a_stage(path.parent):
                retire(path.parent)

    def begin(self, until: Mapping[str, int]) -> Stage:
        """Writes the encoder of the current version into a folder, and begins a stage with it.

        Raises NotFound if no version was published yet, and the errors of a family that cannot be pretrained.
        """
        versions = self._stores[0].versions
        manifest = versions.manifest(versions.current())
        folder = self._path.parent / f"before-{manifest.version}"
        shutil.rmtree(folder, ignore_errors=True)
        tensors = fetch_tensors(manifest, self._stores[0], self._say)
        write_version_encoder(folder, manifest, tensors, (encoder_folder(self._encoder) / TOKENIZER).read_bytes())
        stage = Stage(encoder=str(folder), until=dict(until))
        with atomic_write(self._path, is_synced=True) as file:
            file.write(msgspec.json.encode(stage))
        return stage

    def pretrain(self, stage: Stage, stop: threading.Event | None = None) -> Pretrained:
        """Trains the encoder of a stage. Raises Stopped after `stop` is set, and DataError if the topic has no text."""
        selected = self._selected(stage.until)
        inputs = open_inputs(stage.encoder, max_tokens=self._max_tokens)
        num_tokens = sum(map(len, inputs.encode_many([each.text for each in selected.texts])))
        options = MixOptions(
            tokens=max(1, round(self._options.passes * num_tokens)),
            first_layer=self._options.first_layer,
            max_tokens=self._options.max_tokens,
            rate=self._options.rate,
        )
        log.info("stage_begins", encoder=stage.encoder, texts=selected.counts, tokens=options.tokens)
        request = PretrainRequest(encoder=stage.encoder, share=self._options.share)
        return pretrain(selected, request, options, data=None, state_dir=self._state_dir, say=self._say, stop=stop)

    def offer(self, made: Pretrained, stop: threading.Event) -> bool:
        """Offers an encoder to the learner of each task; returns whether at least one of them has adopted it.

        Raises Stopped after `stop` is set; the next run offers the encoder again.
        """
        tokenizer = open_inputs(self._encoder, max_tokens=self._max_tokens)
        is_adopted = False
        for store in self._stores:
            command = offer(
                store,
                made.folder,
                AdoptOptions(),
                learner=self._learner,
                tokenizer=tokenizer,
                say=self._say,
                source=SOURCE,
            )
            try:
                decided = Decided(await_outcome(store, command, timeout_s=self._options.decides_within_s, stop=stop))
            except NotDoneYet as error:
                if stop.is_set():
                    raise Stopped(str(error)) from error
                log.warning("stage_not_decided", folder=made.folder, error=str(error))
                continue
            is_adopted |= not decided.is_refused
            log.info("stage_decided", folder=made.folder, **msgspec.to_builtins(decided.outcome))
        return is_adopted

    def _wait_until_moved(self, stop: threading.Event) -> dict[str, int] | None:
        """Returns the offsets up to which the next stage reads; None if `stop` was set."""
        watch = DomainWatch(
            open_embedder(self._encoder, self._max_tokens, self._say), num_known=self._options.known_texts
        )
        rng = random.Random(0)
        num_new: int | None = None
        with closing(self._bus.follow([Event], self._bus.end_offsets(Event), is_patient=True)) as follower:
            while not stop.is_set():
                followed = follower.poll(POLL_MS)
                texts = [message.record.text for message in followed.received if message.record.text]
                if num_new is None:
                    chosen = sorted(rng.sample(range(len(texts)), min(len(texts), self._options.texts_per_poll)))
                    if rise := watch.add([texts[place] for place in chosen]):
                        log.warning("domain_moved", **rise._asdict())
                        self._say(f"the texts have moved: distance {rise.before:.2f} -> {rise.after:.2f}")
                        num_new = 0
                    continue
                num_new += len(texts)
                if num_new >= self._options.new_texts:
                    return followed.offsets
                self._say(f"{num_new} of {self._options.new_texts} texts until the stage begins")
        return None

    def _selected(self, until: Mapping[str, int]) -> Selected:
        with_texts = texts_of_events(self._bus, self._ring, until=until)
        selected = select(with_texts, Limits(), erased=erased_subjects(self._stores))
        if not selected.texts:
            raise DataError(f"the topic of events has no text to train on ({selected.counts})")
        return selected


def open_embedder(encoder: str, max_tokens: int | None, say: Say) -> Callable[[Sequence[str]], Tensor]:
    """Returns a function from texts to the vectors z_BD of an encoder, as it is served."""
    inputs = open_inputs(encoder, max_tokens=max_tokens)
    served = packed(*stored_weights(encoder, say), inputs)

    def encode(texts: Sequence[str]) -> Tensor:
        return served.encode(RaggedBatch.of(inputs.encode_many(list(texts))))

    return encode


def is_of_a_stage(folder: Path) -> bool:
    """Whether the encoder of a folder was made by a stage, and not by somebody who went on from one."""
    member = read_member(folder)
    return member is not None and [step["step"] for step in member.history[-2:]] == [SERVED, "pretrain"]


def write_version_encoder(
    folder: Path, manifest: WeightManifest, tensors: Mapping[str, QTensor], tokenizer_json: bytes
) -> None:
    """Writes the encoder of a version, in full precision. Raises WrongConfig or FileExistsError."""
    config = StrataConfig.from_json(manifest.config)
    history = (history_step(SERVED, {"version": manifest.version}),)
    member = Member(config=config, max_tokens=manifest.max_tokens, history=history)
    write_member(folder, member, to_strata(config, tensors).requires_grad_(False), tokenizer_json)


def texts_of_events(bus: Bus, ring: KeyRing, *, until: Mapping[str, int] | None = None) -> Iterator[SourcedText]:
    """Yields the texts of all events that the topic still has, below the offsets `until` if they are given."""
    for event in read_all_records(bus, [Event], until=until):
        subject = subject_digest(ring.subject, event.key) if event.key else ""
        yield SourcedText(event.text, event.source, subject)


def erased_subjects(stores: Sequence[Store]) -> frozenset[str]:
    """Returns the keyed digests of the subjects that were erased in any task."""
    return frozenset(digest for store in stores for digest in Erase.digests(store.commands.read()))
