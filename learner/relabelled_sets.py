"""Renames, merges and retires classes if labels are sets of classes (`learner.relabelling` does so for single classes).

    samples whose sets contain an affected class --rename--> replay buffer, holdout, and the rows of the head

If a class is retired, its samples keep their other classes. Only the row of the class is removed. The sums are then
equal to the sums of a learner that never saw the class. If two classes are merged, their rows are added. A sample with
both classes would count twice. So such samples in the replay buffer are unlearnt before, and learnt again afterwards.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from learner.memory import Replay, name_sample
from learner.samples import Labelled
from wire.kinds import class_names, find_kind

if TYPE_CHECKING:
    from learner.knowledge import Knowledge


def rename_in_sets(known: "Knowledge", new: Mapping[str, str]) -> Counter[str]:
    """Renames classes: `new` maps old names to new ones, and a class to retire to "".

    Returns the numbers of changed samples, by where they are stored.
    """
    if not new:
        return Counter()
    existing = {name for name in new.values() if name and known.fast_head.ridge.count_samples(name)}
    # The samples that were made from the old names of the classes.
    words = [sample for sample in known.replay.samples() if not sample.event and new.keys() & class_names(sample.label)]
    for memory in (known.replay, known.fresh):
        memory.take_out(set(words).__contains__)
    known.fast_head.unlearn_many(words)
    joined = [sample for sample in known.replay.samples() if _loses_a_name(sample, new)]
    known.fast_head.unlearn_many(joined)
    known.fast_head = known.fast_head.with_names(lambda name: new.get(name, name))
    known.fast_head.learn_many([_renamed(sample, new) for sample in joined])
    samples = Counter(
        replay=_rename_in(known.replay, new),
        holdout=_rename_in(known.holdout.samples, new),
        fresh=_rename_in(known.fresh, new),
    )
    known.classes.rename({label: name for label, name in new.items() if name})
    for label in (label for label, name in new.items() if not name):
        known.classes.retire(label)
    known.forget_anchor()
    known.holdout.keep(known.encoder_keys)
    _learn_words(known, words, new, existing)
    return samples


def _rename_in(memory: Replay[Labelled], new: Mapping[str, str]) -> int:
    changed = memory.take_out(lambda sample: bool(new.keys() & class_names(sample.label)))
    memory.add([_renamed(sample, new) for sample in changed])
    return len(changed)


def _renamed(sample: Labelled, new: Mapping[str, str]) -> Labelled:
    names = (new.get(name, name) for name in class_names(sample.label))
    return sample._replace(label=find_kind(sample.label).with_classes(sample.label, [*filter(None, names)]))


def _loses_a_name(sample: Labelled, new: Mapping[str, str]) -> bool:
    """Returns whether two classes of this sample are merged."""
    kept = [new.get(name, name) for name in class_names(sample.label)]
    kept = [name for name in kept if name]
    return len(set(kept)) < len(kept)


def _learn_words(known: "Knowledge", words: list[Labelled], new: Mapping[str, str], existing: set[str]) -> None:
    """Learns the words of each new name as a sample, if the words of an old name of the class were learnt (`words`).

    Classes that existed under the new name before (`existing`) have learnt theirs.
    """
    for name in sorted(set(filter(None, new.values())) - existing):
        old = [sample for sample in words if name in class_names(_renamed(sample, new).label)]
        first = min(old, key=lambda sample: sample.experience, default=None)
        samples = [name_sample(name, first)] if first else []
        if samples and known.fast_head.served.tokenizer.reads(samples[0].text):
            known.fast_head.learn_many(samples)
            known.replay.add(samples)
            known.fresh.add(samples)
