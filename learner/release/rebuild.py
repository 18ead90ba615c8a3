"""Rebuilds a published version from the topics and its lineage, to compare it bit for bit with the served version.

    manifest --lineage--> learn the records up to a round's offsets --> repeat the round --> ... (all rounds)
             --HeadSolution--> learn up to the base and solve it --> learn up to each batch and update --> head

A learner with the same settings reads every partition up to the offsets of each round, in any order. It trains the
round to its end, and adopts or drops its encoder as the lineage says. Then it has the same knowledge as the learner
that published the version. It solves the head at the same offsets as that learner. The result is only bit-exact on
processors with the same instruction set, since the last bits of floating-point sums depend on the instruction set.
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
"""Yields batches of the unread records below the given offsets (`topic/partition` -> next offset)."""


class NotRebuilt(LearnerError):
    """The version cannot be rebuilt. The message gives the reason."""


def rebuild(
    manifest: WeightManifest,
    learner: Learner,
    config: LearnerConfig,
    read_to: ReadTo,
    states: Mapping[str, StoredTensor] = MappingProxyType({}),
) -> Candidate:
    """Rebuilds the version of `manifest` with `learner`, which must not have learnt anything yet.

    - `read_to`: reads the topics up to given offsets.
    - `states`: the statistics of the version's inputs, such as scales of numbers (`stored_states`).

    Raises NotRebuilt, WrongConfig.
    """
    lineage = manifest.lineage
    if lineage.gap:
        raise NotRebuilt(f"version {manifest.version}: {lineage.gap}")
    if not manifest.solution.arithmetic:
        raise NotRebuilt(f"version {manifest.version} was made by a release that solved the head with another method")
    if learner.knowledge.base.spec_for(config_from_json(manifest.config).label_capacity) != manifest.model_spec:
        raise NotRebuilt(f"version {manifest.version} was made with another model or other settings")
    if states:
        # All sums of the version are under its own scales of numbers, even if these were measured late.
        head = learner.fast_head
        learner.knowledge.fast_head = head.successor(head.served.with_states(states))
    follow_settings(learner)
    maker = CandidateMaker(config)
    reader = _Reader(learner, read_to, maker.solver, manifest)
    for recorded in lineage.rounds:
        reader.read(recorded.offsets)
        _repeat(learner, recorded, reader)
    reader.read_all()
    classes = learner.fast_head.ridge.classes
    if classes != manifest.labels:
        raise NotRebuilt(f"the topics have {len(classes)} classes, the version has {len(manifest.labels)}")
    # The settings may have other class weights now.
    known = learner.knowledge
    weighted = replace(known.labels.config, class_weights=manifest.solution.class_weights or {})
    known.labels = replace(known.labels, config=weighted)
    return maker.make(known, Stopwatch(), manifest.trained_through, like=manifest)


class _Reader:
    """Reads the topics up to given offsets, and learns the records.

    Meanwhile it solves the head at the offsets at which the version's head was solved and updated.
    """

    def __init__(self, learner: Learner, read_to: ReadTo, solver: HeadSolver, manifest: WeightManifest) -> None:
        self._learner = learner
        self._read_to = read_to
        self._solver = solver
        self._manifest = manifest
        self._solved_at = [manifest.solution.base, *manifest.solution.batches]
        self._changes = _in_order_of_offsets(manifest.lineage)

    def read(self, offsets: Mapping[str, int]) -> None:
        """Learns every record below `offsets`. Solves the head at the recorded offsets that are below them."""
        while self._solved_at and _is_before(self._solved_at[0], offsets):
            self._solve()
        self._learn(offsets)

    def read_all(self) -> None:
        """Learns every record that the version contains."""
        while self._solved_at:
            self._solve()
        self._learn(self._manifest.trained_through)
        self._reorder_classes()

    def _solve(self) -> None:
        """Learns up to the next recorded offsets, and there solves the base, or updates it by a batch."""
        offsets = self._solved_at.pop(0)
        self._learn(offsets)
        self._reorder_classes()
        is_base = len(self._solved_at) == len(self._manifest.solution.batches)
        self._solver.solve(self._learner.fast_head, offsets, anew=is_base)

    def _learn(self, offsets: Mapping[str, int]) -> None:
        """Learns every record below `offsets`; changes concepts and labels at the recorded offsets."""
        while self._changes and not _is_before(offsets, self._changes[0].offsets):
            change = self._changes.pop(0)
            self._read(change.offsets)
            if isinstance(change, LabelChange):
                relabel(self._learner, change.command)
            else:
                self._learner.restart_class(change)
        self._read(offsets)

    def _read(self, offsets: Mapping[str, int]) -> None:
        """Learns every record below `offsets`, without changes of concepts and labels."""
        for records in self._read_to(offsets):
            self._learner.learn_many(records, offsets)

    def _reorder_classes(self) -> None:
        """Puts the rows of the head into the order of the version. No round may be adopted afterwards.

        Raises NotRebuilt if the version lacks a class.
        """
        known = set(self._learner.fast_head.ridge.classes)
        if missing := known.difference(self._manifest.labels):
            raise NotRebuilt(f"the version lacks these classes of the topics: {sorted(missing)}")
        self._learner.knowledge.reorder([label for label in self._manifest.labels if label in known])


def _in_order_of_offsets(lineage: Lineage) -> list[ConceptChange | LabelChange]:
    """Returns the changes of concepts and of labels in the order in which they happened."""
    changes = list[ConceptChange | LabelChange](lineage.concept_changes)
    # Each change of labels is inserted after the changes of concepts that did not happen later.
    for change in reversed(lineage.label_changes):
        index = sum(not _is_before(change.offsets, other.offsets) for other in lineage.concept_changes)
        changes.insert(index, change)
    return changes


def _is_before(offsets: Mapping[str, int], others: Mapping[str, int]) -> bool:
    """Returns whether some of `offsets` is smaller than in `others`, and none is greater."""
    return offsets != others and all(offset <= others.get(name, 0) for name, offset in offsets.items())


def differences(manifest: WeightManifest, candidate: Candidate) -> list[str]:
    """Returns the names of the tensors in which `candidate` and `manifest` differ; [] if all bits are the same."""
    stored = {tensor.name: tensor for tensor in manifest.tensors}
    names = stored.keys() | candidate.tensors.keys()
    rebuilt = {name: tensor.entry for name, tensor in candidate.tensors.items()}
    return sorted(name for name in names if stored.get(name) != rebuilt.get(name))


def _repeat(learner: Learner, recorded: Round, reader: _Reader) -> None:
    """Repeats a slow round of the lineage, with the recorded outcome. Raises NotRebuilt."""
    max_layers = learner.knowledge.config.deepest_layers
    layers = max_layers if recorded.layers is UNSET else recorded.layers
    if layers > max_layers:
        raise NotRebuilt(
            f"round {recorded.number} trained {layers} blocks, but the settings train {max_layers} at most: set "
            "learner.deeper_layers to its earlier value"
        )
    learner.begin(recorded.kind, layers=layers)
    repeated = learner.knowledge.round
    assert repeated is not None, "the round was begun"
    if repeated.number != recorded.number:
        raise NotRebuilt(f"round {recorded.number} of the lineage is repeated as round {repeated.number}")
    if recorded.outcome == "running":
        return
    # A dropped round does not change the weights, so it need not be trained.
    if recorded.outcome == "dropped":
        learner.knowledge.drop()
        return
    try:
        while repeated.phase is not Phase.READ:
            repeated.step()
        # The round read the replay buffer as of these offsets.
        reader.read(recorded.memory_offsets)
        while repeated.step(may_wait=False) is not Phase.DONE:
            pass
    except (NonFinite, DataError) as error:
        raise NotRebuilt(f"round {recorded.number}: {error}") from error
    learner.knowledge.adopt(repeated)
