"""Which stored versions are kept from collection: a pure function of manifests and of the plan.

    needed (plan, rollback, reference, the learner's)    always
    newest few                                           of those that the learner has not been rolled back from

Only versions of the plan can be promoted by labels, however late they come. There are fewer of the newest where all
would not fit into `budget_bytes`, shared blobs counted once. A version from before an erasure was trained on data that
is to be forgotten, and only the plan keeps it.
"""

from collections.abc import Collection, Iterable, Mapping

from wire.store import Contents


def retained(
    stored: Mapping[int, Contents], *, needed: Collection[int], current: int, num_newest: int, budget_bytes: int
) -> set[int]:
    """Returns the versions to keep, `needed` ones included. `current` is the version that the learner goes on from."""
    erased = max((version.erased for version in stored.values()), default=0)
    clean = sorted(number for number, version in stored.items() if version.erased == erased and number <= current)
    while num_newest:
        chosen = {*needed, *clean[-num_newest:]} & stored.keys()
        if _num_bytes(stored[number] for number in chosen) <= budget_bytes:
            return chosen
        num_newest //= 2
    return set(needed) & stored.keys()


def _num_bytes(versions: Iterable[Contents]) -> int:
    sizes: dict[str, int] = {}
    for version in versions:
        sizes.update(version.blobs)
    return sum(sizes.values())
