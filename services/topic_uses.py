"""What each program does with which topics, and the check of them at its start.

    serve | learn | rollout --require_topics--> nothing, or TopicsUnfit with every name, what is wrong, and the command

A broker that does not answer is no reason to end: the programs wait for it by themselves. A topic that is missing is
waited for, too, as another program may be making it: `lifelong up` beside those that it starts, `topics create` in a
cluster that comes up.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Literal, TypeAlias

import structlog

from services.settings import Settings
from wire.bus import Bus, Finding
from wire.config import BusConfig
from wire.errors import BusUnavailable
from wire.records import TOPIC_RECORDS, Answer, DeadLetter, Event, Feedback, Quarantined, TopicRecord

ProgramName: TypeAlias = Literal["serve", "learn", "rollout"]
Records: TypeAlias = Sequence[type[TopicRecord]]

READS: dict[ProgramName, Records] = {"serve": (Event,), "learn": (Answer, Feedback), "rollout": (Answer, Feedback)}
WRITES: dict[ProgramName, Records] = {
    "serve": (Answer, DeadLetter),
    "learn": (Feedback, Quarantined, DeadLetter),
    "rollout": (),
}
MAY_WRITE: dict[ProgramName, Records] = {"serve": (Feedback,), "learn": (), "rollout": ()}
"""What a program writes only where it is asked to: a replica that takes no labels over HTTP needs no right for them."""

WAIT_MS = 2_000
"""How long a broker may take to answer the check of a start."""

PAUSE_S = 0.5
"""Pause between two looks for missing topics."""

log = structlog.get_logger("topics")


class TopicsUnfit(ValueError):
    """Topics that a program cannot work with, each with what is wrong and the command that mends it."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n  ".join(["topics that do not fit:", *map(line_of, findings)]))
        self.findings = findings


def line_of(finding: Finding) -> str:
    return f"{finding.topic}: {finding.found}. Mend it: {finding.fix}"


def findings_of(
    config: BusConfig,
    reads: Records = TOPIC_RECORDS,
    writes: Records = (),
    *,
    may_write: Records = (),
    wait_ms: int | None = None,
) -> list[Finding]:
    """Returns what there is to say about topics. Raises BusUnavailable, BusRefused."""
    with closing(Bus(config, client_id="topics")) as bus:
        return bus.check_topics(reads, writes, may_write=may_write, wait_ms=wait_ms)


def findings_for(settings: Settings, program: ProgramName, *, wait_ms: int | None = None) -> list[Finding]:
    """Returns what there is to say about what `program` does with topics by these settings. Raises as `findings_of`."""
    reads = READS[program]
    if program == "serve" and settings.serving.series.labels:
        reads = (*reads, Feedback)
    return findings_of(settings.bus, reads, WRITES[program], may_write=MAY_WRITE[program], wait_ms=wait_ms)


def require_topics(settings: Settings, program: ProgramName) -> None:
    """Raises TopicsUnfit where `program` cannot work with its topics, and BusRefused where the broker refuses us.

    Topics that are missing may come within `bus.topics_timeout_s`; which they are is logged at once.
    """
    deadline_s = time.monotonic() + settings.bus.topics_timeout_s
    has_told = False
    while True:
        try:
            findings = findings_for(settings, program, wait_ms=WAIT_MS)
        except BusUnavailable as error:
            log.warning("topics_not_checked", reason=str(error))
            return
        missing = [finding for finding in findings if finding.is_missing]
        if not missing or time.monotonic() > deadline_s:
            break
        if not has_told:
            log.warning("topics_missing", topics=[finding.topic for finding in missing], fix=missing[0].fix)
            has_told = True
        time.sleep(PAUSE_S)
    for finding in findings:
        if not finding.is_wrong:
            log.warning("topic_noted", topic=finding.topic, found=finding.found, fix=finding.fix)
    if wrong := [finding for finding in findings if finding.is_wrong]:
        raise TopicsUnfit(wrong)


def require_transactions(config: BusConfig) -> None:
    """Raises BusRefused where the broker ends no transactions, or we lack the right. One that is away is waited for."""
    with closing(Bus(config, client_id="replica")) as bus:
        try:
            bus.transactions()
        except BusUnavailable as error:
            log.warning("transactions_not_checked", reason=str(error))
