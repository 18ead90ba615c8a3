"""Forgetting subjects: what was learnt from their texts goes out of everything that the learner knows.

The sums of the fast head are exact, so while the replay memory holds everything that is in them, the samples are
subtracted, and the head becomes the one that never saw them, bit for bit. Where the memory has dropped samples, some of
the subject's may have been among them: then the head is made anew from what the memory holds, as after a slow round.

A round under way is dropped, for its plan holds texts, and so is the anchor, for it holds hashes of them.

Not taken back: the steps that the trained blocks have made on the texts. Rejected: to train them anew from the start
(minutes, and every version since the first was made on top of them).
"""

from collections.abc import Callable

from learner.learner import Learner
from learner.memory.replay import Labelled, Replay
from learner.state.lineage import broken


def erase(learner: Learner, *, keep_alive: Callable[[], None]) -> dict[str, int]:
    """Take everything about erased subjects out of `learner`; how many samples, by where they were.

    `keep_alive` is called now and then: to make the head anew takes seconds.
    """
    holds = learner.erased.holds
    is_complete = learner.tier.head.num_samples == len(learner.replay)
    gone = [sample for sample in learner.replay.samples() if holds(sample.subject)]
    removed = {
        "replay": _take_out(learner.replay, holds),
        "held_back": _take_out(learner.holdout.samples, holds),
        "fresh": _take_out(learner.fresh, holds),
        "pending": learner.join.erase(holds),
    }
    if learner.round is not None:
        learner.drop()
    learner.lineage = broken(learner.lineage, "a subject was erased")
    learner.holdout.keep(learner.encoder_keys)
    learner.anchor = None
    if is_complete:
        learner.tier.unlearn_many(gone)
    else:
        tier = learner.tier.successor(learner.tier.served)
        tier.relearn(learner.replay.samples(), after_unit=keep_alive)
        learner.tier = tier
    learner.erased.is_due = False
    return removed


def _take_out(memory: Replay[Labelled], holds: Callable[[str], bool]) -> int:
    subjects = {sample.subject for sample in memory.samples()}
    return sum(memory.erase(subject) for subject in subjects if holds(subject))
