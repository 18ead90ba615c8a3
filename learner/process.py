"""The learner's process: the loop that reads labels, learns them, and publishes weights.

    answers, labels --join--> samples --> fast head (at once), slow rounds (in a thread) --gate--> weights in the store

One learner leads: it holds the lease. Other learners are on standby and wait for the lease. A learner that starts
before Kafka and Redis waits for them. The exit code is 0 if the learner was stopped, and 75 if another learner leads
now; then start this one again. Any other end is an exception in the log.
"""

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import structlog
import torch

from learner.config import LearnerConfig
from learner.failpoints import failpoint
from learner.intake.answer_finder import AnswerFinder
from learner.intake.consumer import CLOSE_S, Consumer, ReadState
from learner.label_traces import LabelTraces
from learner.leadership import Leadership, LeaseFile, retry_until
from learner.learner import Learner
from learner.release.commands import CommandRunner
from learner.release.publisher import WeightPublisher
from learner.report import Reporter
from learner.rounds.trial import AdoptionRule
from learner.rounds.worker import worker_thread
from learner.state.checkpoints import Checkpoints
from learner.state.shared import shared_folder
from model.encoders import open_encoder
from model.kinds import tensors_of
from model.packed import Inputs, WholeEncoder
from wire.bus import Bus
from wire.config import BusConfig, LabelConfig, StoreConfig
from wire.errors import BusUnavailable, StaleEpoch
from wire.keyring import KeyRing, subject_digest
from wire.kinds import KINDS
from wire.receipts import Receipts
from wire.records import Answer, Feedback, WeightManifest
from wire.store import Store
from wire.tasks import TaskNames
from wire.threads import lower_priority
from wire.timestamps import now_ms

UNIT_POLL_MS = 5
"""The longest time that a poll waits during a slow round, in milliseconds. It bounds the pause between two units."""

NICENESS = 2
"""Added to the nice value of the process, so that replicas, which answer events, have priority on busy processors.

Measured with CLINC150 at 200 events and labels a second on two busy cores. Without it answers took 97 ms (p50; p99 398
ms), with it 43 to 64 ms (p99 152 to 230 ms). A label comes after its answer, so labels were also served sooner: after
0.5 s instead of 0.8 s.
"""

EXIT_STALE = 75
"""EX_TEMPFAIL: another learner holds the lease; start this one again."""

log = structlog.get_logger("learner")


class EncoderChoice(NamedTuple):
    """The encoder of the settings: its name, and the length in tokens at which learner and replicas truncate texts.

    If `max_tokens` is None, it is the length for which the encoder was published.
    """

    name: str
    max_tokens: int | None


class TaskChoice(NamedTuple):
    """The task that this learner learns: the settings of its labels, and the names of all tasks of the service."""

    labels: LabelConfig
    names: TaskNames


def run(
    config: LearnerConfig,
    *,
    bus_config: BusConfig,
    store_config: StoreConfig,
    ring: KeyRing,
    encoder: EncoderChoice,
    task: TaskChoice,
    stop: threading.Event,
    rule: AdoptionRule,
) -> int:
    """Runs the learner of one task until `stop` is set; returns the exit code.

    `rule` decides whether an encoder on trial is adopted. Raises StateRefused, UnsafePolicy, BadSignature,
    UnknownFormat and ModelError: an operator must act.
    """
    lower_priority(NICENESS)
    torch.set_num_threads(config.threads)
    folder = Path(config.state_dir)
    store = Store(store_config, ring, task=task.names.reader)
    shared = shared_folder(config.checkpoint_url, folder, store.seals)
    bus = Bus(bus_config, client_id="learner", tasks=task.names)
    executor = worker_thread("slow", niceness=config.niceness, threads=config.threads)
    lease_file = LeaseFile(folder / f"{config.lease_name}.lease")
    try:
        config, strata, tokenizer = open_for_task(config, encoder, task)
        learner = Learner(
            config,
            strata,
            tokenizer,
            receipts=Receipts.following(ring),
            subject_digest=partial(subject_digest, ring.subject),
            cache_dir=folder,
            executor=executor,
            rule=rule,
        )
        learner.label_config = task.labels
        learner.names.draw_holdout_by(ring.holdout)
        checkpoints = Checkpoints(folder, num_newest=config.checkpoints, on_written=shared.offer, shared=shared.entries)
        leadership = _leadership(
            config, store, lambda: max(checkpoints.highest_epoch(), shared.highest_epoch()), lease_file
        )
        retry_until(store.check_policy, stop)
        if leadership.wait(stop):
            with leadership.renewal():
                retry_until(shared.fetch, stop)
                lead(config, learner, bus, store, checkpoints, leadership=leadership, stop=stop)
                # The next leader reads the shared folder, so it must be complete before the lease is released.
                shared.close()
            leadership.release()
    except StaleEpoch as error:
        log.warning("stale_epoch", reason=str(error))
        return EXIT_STALE
    finally:
        # The checkpoint contains the dead letters that could not be sent.
        with suppress(BusUnavailable):
            bus.close(flush_s=CLOSE_S)
        shared.close()
        store.close()
        lease_file.close()
        executor.shutdown(cancel_futures=True)
    return 0


def open_for_task(
    config: LearnerConfig, encoder: EncoderChoice, task: TaskChoice
) -> tuple[LearnerConfig, WholeEncoder, Inputs]:
    """Opens the encoder of the settings; returns the settings that apply, the encoder and its tokenizer.

    The settings are limited to what the family of the encoder and the kind of the labels support: some encoders cannot
    be trained. Raises ModelError.
    """
    strata, inputs = open_encoder(encoder.name, max_tokens=encoder.max_tokens)
    config = config.limited_to(strata.max_trained_layers)
    kind = KINDS.get(task.labels.kind)
    # If the tensor functions of this kind are missing, the program ends here, and not at the first label.
    tensors_of(kind)
    if not kind.trains_encoder:
        config = replace(config, trainable_layers=0, deeper_layers=(0, 0))
    return replace(config, learn_unlabelled=config.learn_unlabelled and kind.is_exclusive), strata, inputs


def _leadership(config: LearnerConfig, store: Store, highest_epoch: Callable[[], int], file: LeaseFile) -> Leadership:
    holder = f"{os.uname().nodename}/{os.getpid()}/{secrets.token_hex(4)}"
    ttl_ms = config.lease_ttl_ms
    return Leadership(store.leases, config.lease_name, holder, ttl_ms=ttl_ms, highest_epoch=highest_epoch, file=file)


def lead(
    config: LearnerConfig,
    learner: Learner,
    bus: Bus,
    store: Store,
    checkpoints: Checkpoints,
    *,
    leadership: Leadership,
    stop: threading.Event,
) -> None:
    """Learns from labels until `stop` is set. Raises StaleEpoch if another learner leads.

    consumes: Answer, Feedback    from wire.bus, at least once, from the offsets in the checkpoint
              Command             from wire.store, all of them before anything is learnt
    produces: WeightManifest      to wire.store, unless the gate refuses the candidate
              CommandOutcome      to wire.store, after a command was executed, and after a version contains its effect
              blobs               to wire.store, in place of damaged ones
              Quarantined, DeadLetter     to wire.bus: labels that are not trusted, and records that cannot be read
                                  (acknowledged, or in the checkpoint whose offsets are past them)
              units of slow work  to the worker's thread (`learner.rounds.worker`), which never delays a label
    waits for: records, at most `poll_timeout_ms`, or UNIT_POLL_MS during a slow round
    unblocked by: a record, the end of the timeout
    """
    pending = restore(learner, checkpoints)
    publisher = WeightPublisher(learner, store, checkpoints, leadership, config=config, now_ms=now_ms)
    commands = CommandRunner(
        learner,
        store,
        checkpoints,
        publisher,
        leadership=leadership,
        now_ms=now_ms,
        verify_every_s=config.verify_blobs_every_s,
    )
    reporter = Reporter(store.reports.write_learner, leadership, now_ms=now_ms)
    consumer = _new_consumer(config, learner, bus, stop)
    ends = retry_until(consumer.ends, stop)
    retry_until(lambda: publisher.recover(pending, ends or {}), stop)
    retry_until(commands.catch_up, stop)
    if stop.is_set():
        return
    label_traces = LabelTraces()
    publisher.checkpoint()
    while not stop.is_set():
        leadership.check()
        # Operators' commands (erase, relabel, adopt, repair): read at most once a second.
        commands.poll()
        # Poll, join, fast head, replay buffer; then a unit of the slow round.
        _learn(config, learner, consumer, publisher, label_traces)
        # A new version, if one is due.
        publisher.poll()
        label_traces.on_published(learner.version, learner.progress.published_effects, now_ms=now_ms())
        reporter.report(learner, publisher, consumer, label_traces)
    publisher.finish()
    consumer.close()
    reporter.report(learner, publisher, consumer, label_traces, is_last=True)


def _learn(
    config: LearnerConfig, learner: Learner, consumer: Consumer, publisher: WeightPublisher, label_traces: LabelTraces
) -> None:
    """Learns the records of one poll, and begins a unit of slow work. Makes a version due if drift or a better encoder
    demands it."""
    timeout_ms = min(config.poll_timeout_ms, UNIT_POLL_MS) if learner.has_work else config.poll_timeout_ms
    records = consumer.poll(1 if publisher.is_due() else timeout_ms, max_labels=learner.labels_to_round)
    failpoint("after-poll")
    begun_ms = now_ms()
    num_unwritten = len(learner.unwritten)
    consumer.quarantine(learner.learn_many(records, consumer.offsets, consumer.marks))
    learner.join.late.settle(consumer.polled)
    learnt = learner.unwritten[num_unwritten:]
    label_traces.on_learnt(
        records, learnt, num_effects=learner.progress.num_effects, begun_ms=begun_ms, now_ms=now_ms()
    )
    if learner.drift.take_num_detected():
        publisher.backoff.end_interval()
    failpoint("after-learn")
    learner.schedule.behind_s = publisher.backoff.behind_s = learner.pace.seconds(consumer.num_unread_labels)
    if learner.tick(is_idle=0 < config.rehearse_after_s <= consumer.idle_s):
        publisher.parent.make_due()
        failpoint("after-adopt")


def restore(learner: Learner, checkpoints: Checkpoints) -> WeightManifest | None:
    """Restores the newest intact checkpoint, if there is one.

    Returns the manifest that was about to be published when the checkpoint was written, or None. Raises StateRefused if
    there are checkpoints and none can be restored.
    """
    snapshot = checkpoints.newest()
    for reason in checkpoints.refused:
        log.warning("checkpoint_refused", reason=reason)
    if snapshot is None:
        return None
    learner.restore(snapshot)
    log.info("restored", version=learner.version, learnt=learner.progress.num_labels, offsets=learner.offsets)
    return snapshot.facts.pending


def _new_consumer(config: LearnerConfig, learner: Learner, bus: Bus, stop: threading.Event) -> Consumer:
    """Returns a consumer that starts at the learner's offsets; a new learner starts where `bus.begin` says."""
    learner.offsets = learner.offsets or retry_until(partial(bus.begin_offsets, Answer, Feedback), stop) or {}
    return Consumer(
        bus,
        ReadState(offsets=learner.offsets, marks=learner.marks, letters=learner.letters, counts=learner.counts),
        levels=lambda: learner.join.levels,
        wait=lambda: stop.wait(1e-3 * config.retry_backoff_ms),
        on_truncated=learner.forget_read_first,
        finder=AnswerFinder(bus, learner.join.late, learner.trust, is_erased=learner.erased.holds),
    )
