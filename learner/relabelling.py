"""Executes operators' commands on the set of labels: they rename, merge, split or retire classes.

    LabelCommand --> samples, sums, counts and evidence under the new names --> the next version
                 --> lineage: the command, and the offsets of the records before it

The sums are exact. So after a rename or a merge they are the same bits as if the classes had had the new names from the
start. The same is true of the replay buffer and the holdout, except for samples that they have dropped. The words of a
class's name are a sample of the class (`learner.learn_names`). So the old name is unlearnt, if it is still in the
replay buffer, and the new one is learnt.

A slow round under way is dropped, since its plan has the old names.
"""

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

import structlog

from learner import unlearning
from learner.memory import Replay, name_sample
from learner.quality.comparison import Anchor, sample_hash
from learner.relabelled_sets import rename_in_sets
from learner.samples import Labelled
from learner.state.lineage import add_label_change
from wire.kinds import row_names
from wire.label_set import LabelSet
from wire.records import ConceptChange, LabelChange, LabelCommand

if TYPE_CHECKING:
    from learner.knowledge import Knowledge
    from learner.learner import Learner

log = structlog.get_logger("learner")


def follow_settings(learner: "Learner") -> None:
    """Adopts the set of labels of the settings, if the settings have changed since the state was written.

    Raises StateRefused if the samples have labels of another kind.
    """
    known = learner.knowledge
    if known.labels.config != learner.label_config:
        known.check_kind(learner.label_config.kind)
        known.labels = LabelSet.of(learner.label_config, learner.commands.label_commands(known.applied_seq))


def relabel(learner: "Learner", command: LabelCommand) -> dict[str, int]:
    """Executes a command on the set of labels.

    Returns the numbers of samples that were renamed or removed, by where they are stored. Afterwards a version is due,
    and a checkpoint, since a journal cannot contain a command.
    """
    known = learner.knowledge
    before = known.labels
    known.labels = before.after(command)
    changed = {before.name_of(label) for label in command.labels} & _classes(known)
    samples = Counter[str]()
    if known.round is not None and (changed or command.action == "split"):
        known.round.wait()
        known.drop()
    is_of_sets = not known.labels.kind.is_exclusive
    new = {label: known.labels.name_of(label) for label in sorted(changed)}
    new = {label: name for label, name in new.items() if label != name}
    if command.action == "retire":
        samples = rename_in_sets(known, dict.fromkeys(changed, "")) if is_of_sets else _retire(known, changed)
    elif command.action in ("rename", "merge"):
        samples = rename_in_sets(known, new) if is_of_sets else _rename(known, new)
    known.lineage = add_label_change(known.lineage, LabelChange(command=command, offsets=dict(learner.offsets)))
    if command.action == "split" and command.forgets and not is_of_sets:
        for label in changed:
            unlearning.restart_since(known, ConceptChange(label, command.time_ms))
    learner.prequential.rename(known.labels.name_of)
    learner.trust.rename(lambda name: "" if name in known.labels.retired else known.labels.name_of(name))
    learner.progress.break_off()
    learner.counts[f"labels_{command.action}"] += 1
    log.info("labels_changed", number=command.number, action=command.action, labels=command.labels, to=command.to)
    return dict(samples)


def _classes(known: "Knowledge") -> set[str]:
    """Returns the classes that have a row in the head or samples in the holdout."""
    in_holdout = (row_names(sample.label) for sample in known.holdout.samples.samples())
    return set(chain.from_iterable(in_holdout)).union(known.fast_head.ridge.classes)


def _retire(known: "Knowledge", labels: set[str]) -> Counter[str]:
    """Removes classes: their rows in the head, and their samples in the replay buffer and the holdout."""
    samples = Counter[str]()
    for label in labels:
        in_replay = known.replay.of(label)
        known.fast_head.unlearn_many(in_replay)
        samples.update(replay=len(in_replay), holdout=len(known.holdout.samples.of(label)))
        for memory in (known.replay, known.fresh, known.holdout.samples):
            memory.erase_class(label)
        known.concept_changes.forget(label)
        known.classes.retire(label)
    known.fast_head = known.fast_head.with_names(lambda name: "" if name in labels else name)
    known.holdout.keep(known.encoder_keys)
    return samples


def _rename(known: "Knowledge", new: dict[str, str]) -> Counter[str]:
    """Renames classes: `new` maps old names to new ones. Classes that get the same name are merged."""
    if not new:
        return Counter()
    head = known.fast_head
    existing = {label for label in {*new.values()} if head.ridge.count_samples(label)}
    # The samples that were made from the old names of the classes.
    words = [sample for label in new for sample in known.replay.of(label) if not sample.event]
    for memory in (known.replay, known.fresh):
        memory.take_out(set(words).__contains__)
    head.unlearn_many(words)
    known.fast_head = head.with_names(lambda name: new.get(name, name))
    known.anchor = _renamed_anchor(known, new) if len(new) == 1 and not existing else None
    samples = Counter(
        replay=_rename_in(known.replay, new),
        holdout=_rename_in(known.holdout.samples, new),
        fresh=_rename_in(known.fresh, new),
    )
    known.classes.rename(new)
    for label, name in new.items():
        known.concept_changes.rename(label, name)
    known.holdout.keep(known.encoder_keys)
    _learn_names(known, words, new, existing)
    return samples


def _rename_in(memory: Replay[Labelled], new: dict[str, str]) -> int:
    """Renames the samples of these classes in a replay buffer or holdout; returns their number."""
    renamed = list[Labelled]()
    for label, name in new.items():
        renamed += [sample._replace(label=name) for sample in memory.of(label)]
        memory.erase_class(label)
    memory.add(renamed)
    return len(renamed)


def _learn_names(known: "Knowledge", old_words: list[Labelled], new: dict[str, str], existing: set[str]) -> None:
    """Learns the words of each new name as a sample, if the words of an old name of the class were learnt.

    Classes that existed under the new name before (`existing`) have learnt theirs.
    """
    for name in sorted({*new.values()} - existing):
        of_class = [sample for sample in old_words if new[sample.label] == name]
        first = min(of_class, key=lambda sample: sample.experience, default=None)
        words = [name_sample(name, first)] if first else []
        if words and known.fast_head.served.tokenizer.reads(words[0].text):
            known.fast_head.learn_many(words)
            known.replay.add(words)
            known.fresh.add(words)


def _renamed_anchor(known: "Knowledge", new: dict[str, str]) -> Anchor | None:
    """Returns the anchor with new hashes for the samples of a renamed class, since a hash depends on the label."""
    anchor = known.anchor
    if anchor is None:
        return None
    hashes = {
        sample_hash(sample): sample_hash(sample._replace(label=new[sample.label]))
        for sample in known.holdout.samples.samples()
        if sample.label in new
    }
    right = [hashes.get(name, name) for name in anchor.right]
    wrong = [hashes.get(name, name) for name in anchor.wrong]
    return Anchor(version=anchor.version, num_classes=anchor.num_classes, right=right, wrong=wrong)
