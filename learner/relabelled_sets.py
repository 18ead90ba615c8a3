"""Follows what operators do to the labels where events have sets of them: classes are renamed, become one, or go.

    samples whose sets have such a class --by the names of now--> memories, and the sums of those that have two of them

A sample stays when one of its classes goes, with the others. So only the row of that class is left out, and afterwards
the sums are those of a learner that was never given its name. Where two classes become one, their rows are added up;
samples that have both are taken out before and learnt again after, as far as the memory holds them, or they would count
twice.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from learner.memory import Replay, name_sample
from learner.samples import Labelled
from wire.kinds import class_names, kind_of

if TYPE_CHECKING:
    from learner.knowledge import Knowledge


def rename_in_sets(known: "Knowledge", new: Mapping[str, str]) -> Counter[str]:
    """Gives each class of `new` the name that it has there; "" for one that goes. Returns how many samples changed."""
    if not new:
        return Counter()
    named = {name for name in new.values() if name and known.fast_head.ridge.num_of(name)}
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
    _learn_words(known, words, new, named)
    return samples


def _rename_in(memory: Replay[Labelled], new: Mapping[str, str]) -> int:
    changed = memory.take_out(lambda sample: bool(new.keys() & class_names(sample.label)))
    memory.add([_renamed(sample, new) for sample in changed])
    return len(changed)


def _renamed(sample: Labelled, new: Mapping[str, str]) -> Labelled:
    names = (new.get(name, name) for name in class_names(sample.label))
    return sample._replace(label=kind_of(sample.label).with_classes(sample.label, [*filter(None, names)]))


def _loses_a_name(sample: Labelled, new: Mapping[str, str]) -> bool:
    """Whether two classes of the sample become one."""
    kept = [new.get(name, name) for name in class_names(sample.label)]
    kept = [name for name in kept if name]
    return len(set(kept)) < len(kept)


def _learn_words(known: "Knowledge", words: list[Labelled], new: Mapping[str, str], named: set[str]) -> None:
    """Learns the words of each new name where those of an old one were learnt; classes that are `named` have theirs."""
    for name in sorted(set(filter(None, new.values())) - named):
        old = [sample for sample in words if name in class_names(_renamed(sample, new).label)]
        first = min(old, key=lambda sample: sample.experience, default=None)
        samples = [name_sample(name, first)] if first else []
        if samples and known.fast_head.served.tokenizer.reads(samples[0].text):
            known.fast_head.learn_many(samples)
            known.replay.add(samples)
            known.fresh.add(samples)
