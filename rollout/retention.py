"""Which stored versions are kept from collection: a pure function of manifests and of what may be promoted.

    needed (plan, rollback, the learner's)     always
    newest few                                 of those that the learner has not been rolled back from
    those that may be promoted                 all that answered since the last decision, thinned by age:
                                               `per_octave` in each doubling of their age

Labels may come seconds or hours after their answers, and a version is promoted by its labels, so it must still be
stored when they come. Not all versions would fit: at one version a second two hours are 7,200 heads. Any neighbour of a
version will do, since they differ by a few labels. So the kept versions are spaced geometrically: whatever the delay
is, the newest stored version that has its labels is older by at most a fixed share of that delay. The spacing gets
coarser until the versions fit into `budget_bytes`, shared blobs counted once.

A version from before an erasure was trained on data that is to be forgotten, and only the plan keeps it.

Rejected: keeping all versions younger than the longest delay (an operator would have to know it, and the bytes would
follow from it), and keeping all that have answers without a label (most of a stream may never be labelled).
"""

from collections.abc import Collection, Iterable, Mapping

from wire.store import Contents


def retained(
    stored: Mapping[int, Contents],
    *,
    needed: Collection[int],
    first: int,
    current: int,
    num_newest: int,
    budget_bytes: int,
) -> set[int]:
    """Returns the versions to keep, `needed` ones included.

    `first` is the oldest that may be promoted (0: none), `current` the version that the learner goes on from.
    """
    erased = max((version.erased for version in stored.values()), default=0)
    clean = sorted(number for number, version in stored.items() if version.erased == erased and number <= current)
    promotable = [number for number in clean if first and number >= first]
    per_octave = num_newest
    while per_octave:
        chosen = {*needed, *clean[-per_octave:], *_spread(promotable, current, per_octave)} & stored.keys()
        if _num_bytes(stored[number] for number in chosen) <= budget_bytes:
            return chosen
        per_octave //= 2
    return set(needed) & stored.keys()


def _spread(versions: Iterable[int], current: int, per_octave: int) -> set[int]:
    """Returns the last of `versions`, in rising order, of each interval; intervals are as wide as their age /
    `per_octave`.

    Widths are powers of two, so that an interval that ages becomes half of another: a version dropped before is not
    missed.

    >>> sorted(_spread(range(1, 33), current=32, per_octave=4))
    [3, 7, 11, 15, 16, 17, 19, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32]
    """
    last = {}
    for version in versions:
        width = 1 << (max(1, (current - version) // per_octave).bit_length() - 1)
        last[width, version // width] = version
    return set(last.values())


def _num_bytes(versions: Iterable[Contents]) -> int:
    sizes: dict[str, int] = {}
    for version in versions:
        sizes.update(version.blobs)
    return sum(sizes.values())
