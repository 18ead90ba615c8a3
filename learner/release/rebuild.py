"""Rebuilds a published version from the topics and its lineage, to compare it with what is served, bit for bit.

    manifest --lineage--> records up to a round's offsets --> the round --> ... --> records up to the version's --> head

A learner of the same settings reads every partition up to the offsets of each round, in whatever order, trains the
round to its end, and adopts or drops its encoder as the lineage says. Then it knows what the learner knew that
published the version. This holds on processors of one instruction set only: floating-point sums differ in their last
bits between instruction sets.

Rejected: beginning from the newest checkpoint (it is what might be wrong), and repeating the timing of the rounds (what
they train on does not depend on it).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from learner.config import LearnerConfig
from learner.errors import DataError, LearnerError
from learner.learner import Learner
from learner.release.candidate import Candidate, CandidateMaker
from learner.slow.round import Phase
from learner.stopwatch import Stopwatch
from model.errors import NonFinite
from wire.records import Answer, Feedback, Round, WeightManifest

ReadTo: TypeAlias = Callable[[Mapping[str, int]], Iterable[Sequence[Answer | Feedback]]]
"""Yields, in parts, the records below these offsets (`topic/partition` -> next offset) that were not read before."""


class NotRebuilt(LearnerError):
    """The version cannot be rebuilt; the message says why."""


def rebuild(manifest: WeightManifest, learner: Learner, config: LearnerConfig, read_to: ReadTo) -> Candidate:
    """Rebuilds the version of `manifest` with `learner`, which knows nothing yet. Raises NotRebuilt."""
    lineage = manifest.lineage
    if lineage.gap:
        raise NotRebuilt(f"version {manifest.version}: {lineage.gap}")
    if learner.model_spec != manifest.model_spec:
        raise NotRebuilt(f"version {manifest.version} is of another model or other settings than these")
    for each in lineage.rounds:
        _read(learner, read_to, each.offsets)
        _repeat(learner, each, read_to)
    _read(learner, read_to, manifest.trained_through)
    classes = learner.fast_head.ridge.classes
    if sorted(classes) != sorted(manifest.labels):
        raise NotRebuilt(f"{len(classes)} classes are in the topics, {len(manifest.labels)} in the version")
    learner.knowledge.reorder(manifest.labels)
    return CandidateMaker(config).make(learner.knowledge, Stopwatch())


def differences(manifest: WeightManifest, candidate: Candidate) -> list[str]:
    """Returns the tensors of `candidate` that are not those of `manifest`, by name; [] where every bit is the same."""
    stored = {tensor.name: tensor for tensor in manifest.tensors}
    names = stored.keys() | candidate.tensors.keys()
    rebuilt = {name: tensor.entry for name, tensor in candidate.tensors.items()}
    return sorted(name for name in names if stored.get(name) != rebuilt.get(name))


def _read(learner: Learner, read_to: ReadTo, offsets: Mapping[str, int]) -> None:
    for records in read_to(offsets):
        learner.learn_many(records, offsets)


def _repeat(learner: Learner, recorded: Round, read_to: ReadTo) -> None:
    learner.begin(recorded.kind)
    done = learner.knowledge.round
    assert done is not None, "begin has begun one"
    if done.plan.number != recorded.number:
        raise NotRebuilt(f"round {recorded.number} comes out as round {done.plan.number}")
    if recorded.outcome == "running":
        return
    if recorded.outcome == "dropped":
        learner.knowledge.drop()
        return
    try:
        while done.phase is not Phase.READ:
            done.step()
        _read(learner, read_to, recorded.memory_offsets)
        while done.step() is not Phase.DONE:
            pass
    except (NonFinite, DataError) as error:
        raise NotRebuilt(f"round {recorded.number}: {error}") from error
    learner.knowledge.adopt(done)
