"""The records in the store: each is decoded as the programs of this release would.

Manifests are signed and content-addressed, so they are never rewritten: replicas read formats N and N-1. Tallies that
cannot be read are dropped, as the rollout would at its next start; it judges the versions anew then.
"""

from collections.abc import Callable, Iterator

import msgspec

from rollout.judged_events import JudgedEvent
from rollout.tallies import TalliesState
from services.migration.format_finding import FormatFinding, Readability, read
from wire.errors import BadSignature, BlobCorrupt, UnknownFormat
from wire.store import Store

REFUSALS = (BadSignature, BlobCorrupt, UnknownFormat)

RELEASE = "Install the release that wrote it, or restore a backup"


def examined(store: Store) -> Iterator[FormatFinding]:
    """Yields the plan, every manifest, the tallies, and what else programs of this release read from the store."""
    plan = None
    try:
        plan = store.plans.read()
    except REFUSALS as error:
        yield _unreadable("plan", f"{error}. {RELEASE}", is_needed=True)
    else:
        if plan is not None:
            yield read("plan", "rollout plan", f"revision {plan.revision}")
    needed = {store.versions.current(), *(plan.needed if plan else ())}
    for number in store.versions.stored():
        yield _of_manifest(store, number, is_needed=number in needed)
    yield from _of_tallies(store)
    reads: dict[str, Callable[[], object]] = {
        "offer": store.offers.open,
        "decisions": lambda: store.plans.decisions.since(0, 1_000_000),
        "history": lambda: store.versions.history(1_000_000),
        "labels": lambda: [*store.labels.requested()],
        "erasures": lambda: [store.erasures.of(digest) for digest in filter(None, store.erasures.requested(0))],
    }
    for name, reader in reads.items():
        try:
            found = reader()
        except REFUSALS as error:
            yield _unreadable(name, f"{error}. {RELEASE}", is_needed=name in ("erasures", "labels"))
        else:
            if found:
                yield read(name, name, f"{len(found)} of them" if isinstance(found, list) else "")


def _of_manifest(store: Store, number: int, *, is_needed: bool) -> FormatFinding:
    name = f"manifest of version {number}"
    try:
        manifest = store.versions.manifest(number)
    except REFUSALS as error:
        return _unreadable(name, f"{error}. {RELEASE}", is_needed=is_needed)
    return read(name, f"{manifest.format} {manifest.format_version}")


def _of_tallies(store: Store) -> Iterator[FormatFinding]:
    try:
        tallies = store.plans.read_evidence(TalliesState)
        judged = store.plans.read_judged(JudgedEvent)
    except (*REFUSALS, msgspec.DecodeError) as error:
        why = f"{error}. They are dropped, and the rollout judges the versions of the plan anew"
        yield FormatFinding(
            name="tallies", format="?", verdict=Readability.REWRITTEN, why=why, rewrite=store.plans.forget_evidence
        )
        return
    if tallies is not None:
        yield read("tallies", "tallies", f"{len(judged)} judged events")


def _unreadable(name: str, why: str, *, is_needed: bool) -> FormatFinding:
    return FormatFinding(name=name, format="?", verdict=Readability.UNREADABLE, why=why, is_needed=is_needed)
