"""Rebuilds a published version from the topics and its lineage, to compare it with what is served, bit for bit.

    manifest --lineage--> records up to a round's offsets --> the round --> ... --> records up to the base, and up to
    each batch since (`HeadSolution`) --> head

A learner of the same settings reads every partition up to the offsets of each round, in whatever order, trains the
round to its end, and adopts or drops its encoder as the lineage says. Then it knows what the learner knew that
published the version. It solves the head where that learner solved it. This holds on processors of one instruction set
only: floating-point sums differ in their last bits between instruction sets.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from msgspec import UNSET

from learner.config import LearnerConfig
from learner.encoder.served import StoredTensor
from learner.errors import DataError, LearnerError
from learner.fast.solver import HeadSolver
from learner.learner import Learner
from learner.relabelling import follow_settings, relabel
from learner.release.candidate import Candidate, CandidateMaker
from learner.rounds.round import Phase
from learner.stopwatch import Stopwatch
from model.encoders import config_from_json
from model.errors import NonFinite
from wire.records import Answer, ConceptChange, Feedback, LabelChange, Lineage, Round, WeightManifest

ReadTo: TypeAlias = Callable[[Mapping[str, int]], Iterable[Sequence[Answer | Feedback]]]
"""Yields, in parts, the records below these offsets (`topic/partition` -> next offset) that were not read before."""


class NotRebuilt(LearnerError):
    """The version cannot be rebuilt; the message says why."""


def rebuild(
    manifest: WeightManifest,
    learner: Learner,
    config: LearnerConfig,
    read_to: ReadTo,
    states: Mapping[str, StoredTensor] = MappingProxyType({}),
) -> Candidate:
    """Rebuilds the version of `manifest` with `learner`, which knows nothing yet.

    `states` are the tensors of inputs that the version has (`stored_states`). Raises NotRebuilt, WrongConfig.
    """
    lineage = manifest.lineage
    if lineage.gap:
        raise NotRebuilt(f"version {manifest.version}: {lineage.gap}")
    if not manifest.solution.arithmetic:
        raise NotRebuilt(f"version {manifest.version} is of a program that solved the head in another way")
    if learner.knowledge.base.spec_of(config_from_json(manifest.config).label_capacity) != manifest.model_spec:
        raise NotRebuilt(f"version {manifest.version} is of another model or other settings than these")
    if states:
        # All sums of the version are under its own scales of numbers, whenever they were measured.
        head = learner.fast_head
        learner.knowledge.fast_head = head.successor(head.served.with_states(states))
    follow_settings(learner)
    maker = CandidateMaker(config)
    reader = _Reader(learner, read_to, maker.solver, manifest)
    for each in lineage.rounds:
        reader.read(each.offsets)
        _repeat(learner, each, reader)
    reader.read_all()
    classes = learner.fast_head.ridge.classes
    if classes != manifest.labels:
        raise NotRebuilt(f"{len(classes)} classes are in the topics, {len(manifest.labels)} in the version")
    known = learner.knowledge
    weighted = replace(known.labels.config, class_weights=manifest.solution.class_weights or {})
    known.labels = replace(known.labels, config=weighted)
    return maker.make(known, Stopwatch(), manifest.trained_through, like=manifest)


class _Reader:
    """Reads the topics up to given offsets, and solves the head on the way where the version's learner did."""

    def __init__(self, learner: Learner, read_to: ReadTo, solver: HeadSolver, manifest: WeightManifest) -> None:
        self._learner = learner
        self._read_to = read_to
        self._solver = solver
        self._manifest = manifest
        self._solved_at = [manifest.solution.base, *manifest.solution.batches]
        self._changes = _in_order_of_offsets(manifest.lineage)

    def read(self, offsets: Mapping[str, int]) -> None:
        """Learns every record below `offsets`; solves where that was done below them."""
        while self._solved_at and _is_before(self._solved_at[0], offsets):
            self._solve()
        self._learn(offsets)

    def read_all(self) -> None:
        """Learns every record that the version knows."""
        while self._solved_at:
            self._solve()
        self._learn(self._manifest.trained_through)
        self._put_in_order()

    def _solve(self) -> None:
        offsets = self._solved_at.pop(0)
        self._learn(offsets)
        self._put_in_order()
        is_base = len(self._solved_at) == len(self._manifest.solution.batches)
        self._solver.solve(self._learner.fast_head, offsets, anew=is_base)

    def _learn(self, offsets: Mapping[str, int]) -> None:
        while self._changes and not _is_before(offsets, self._changes[0].offsets):
            change = self._changes.pop(0)
            self._read(change.offsets)
            if isinstance(change, LabelChange):
                relabel(self._learner, change.command)
            else:
                self._learner.restart_class(change)
        self._read(offsets)

    def _read(self, offsets: Mapping[str, int]) -> None:
        for records in self._read_to(offsets):
            self._learner.learn_many(records, offsets)

    def _put_in_order(self) -> None:
        """Puts the rows of the head into the order that they have in the version. No round is to be adopted any more.

        Raises NotRebuilt where a class is not in the version.
        """
        known = set(self._learner.fast_head.ridge.classes)
        if not known <= set(self._manifest.labels):
            raise NotRebuilt(f"classes are in the topics that are not in the version: {sorted(known)}")
        self._learner.knowledge.reorder([label for label in self._manifest.labels if label in known])


def _in_order_of_offsets(lineage: Lineage) -> list[ConceptChange | LabelChange]:
    """Returns the changes of concepts and of labels in the order in which they came."""
    changes = list[ConceptChange | LabelChange](lineage.concept_changes)
    for change in reversed(lineage.label_changes):  # each goes behind the last one that did not come later
        place = sum(not _is_before(change.offsets, each.offsets) for each in lineage.concept_changes)
        changes.insert(place, change)
    return changes


def _is_before(offsets: Mapping[str, int], others: Mapping[str, int]) -> bool:
    """Whether no offset is behind its other, and one is before it."""
    return offsets != others and all(offset <= others.get(name, 0) for name, offset in offsets.items())


def differences(manifest: WeightManifest, candidate: Candidate) -> list[str]:
    """Returns the tensors of `candidate` that are not those of `manifest`, by name; [] where every bit is the same."""
    stored = {tensor.name: tensor for tensor in manifest.tensors}
    names = stored.keys() | candidate.tensors.keys()
    rebuilt = {name: tensor.entry for name, tensor in candidate.tensors.items()}
    return sorted(name for name in names if stored.get(name) != rebuilt.get(name))


def _repeat(learner: Learner, recorded: Round, reader: _Reader) -> None:
    most = learner.knowledge.config.deepest_layers
    layers = most if recorded.layers is UNSET else recorded.layers
    if layers > most:
        raise NotRebuilt(
            f"round {recorded.number} trained {layers} blocks, but the settings train {most} at most: set "
            "learner.deeper_layers as it was"
        )
    learner.begin(recorded.kind, layers=layers)
    done = learner.knowledge.round
    assert done is not None, "begin has begun one"
    if done.number != recorded.number:
        raise NotRebuilt(f"round {recorded.number} comes out as round {done.number}")
    if recorded.outcome == "running":
        return
    if recorded.outcome == "dropped":
        learner.knowledge.drop()
        return
    try:
        while done.phase is not Phase.READ:
            done.step()
        reader.read(recorded.memory_offsets)
        while done.step(may_wait=False) is not Phase.DONE:  # it was adopted
            pass
    except (NonFinite, DataError) as error:
        raise NotRebuilt(f"round {recorded.number}: {error}") from error
    learner.knowledge.adopt(done)
